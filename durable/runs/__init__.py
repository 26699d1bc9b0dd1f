"""The life of a run: claimed, executed, ended; and what can be had of it afterwards."""
