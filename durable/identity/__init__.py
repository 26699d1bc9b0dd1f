"""What a call is known by: its step key, and the value of its arguments as bytes that are the same in every process."""
