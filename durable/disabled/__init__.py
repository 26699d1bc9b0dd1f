"""What stands for runs where DURABLE_DISABLE is set: plain functions, and nothing is kept."""
