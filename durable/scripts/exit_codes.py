"""How the process of a program or of a command ends, so that what started it can decide how to go on."""

OK = 0
FAILED = 1  # can be resumed
USAGE = 2
BLOCKED = 76  # a step is in doubt
OVER_BUDGET = 77
INTERRUPTED = 130
