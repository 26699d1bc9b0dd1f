"""Steps that wait: for time, for messages, for batches, for the end of a pause."""
