from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # other processes may have the processor for a while
settings.load_profile("untimed")

# the tests start hundreds of interpreters: those need not compile the package again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
