"""What people and observers are told of runs; nothing here decides."""
