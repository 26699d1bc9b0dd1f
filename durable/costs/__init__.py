"""What runs cost, what they may cost, and what a replay did not cost again."""
