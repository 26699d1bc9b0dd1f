"""`import durable.auto` as the first line of a script: `python script.py` then does what `durable run script.py` does.

Targets, presets and `after_success` come from `[tool.durable]` in pyproject.toml.
"""

from __future__ import annotations

from durable.scripts.automatic import take_over

take_over()
