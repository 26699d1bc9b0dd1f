"""The version of a store's format and the columns that statements name; a store that is there needs no more."""

from __future__ import annotations

from dataclasses import fields

from durable.records import RunRecord, StepRecord

FORMAT = 6
APPLICATION_ID = 0x44555242  # "DURB"

SEQ_BITS = 32  # a step's `id` is its run's `pk`, shifted by so many, and its `seq`: so rows of a run are appended
SEQ_MASK = (1 << SEQ_BITS) - 1
RUN_FIELDS = tuple(field.name for field in fields(RunRecord))
STEP_FIELDS = StepRecord._fields[1:]  # `run_id` is the run's integer key here
STEP_OPTIONAL = STEP_FIELDS[STEP_FIELDS.index("ended_at") :]
STEP_PROOFS = ("twin", "tally")  # what a row repeats of itself, see `rows`
RUN_VALUES = ("inputs", "result", "error")
STEP_VALUES = ("value", "error")
