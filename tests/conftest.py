from __future__ import annotations

import os

# the tests start hundreds of interpreters: those need not compile the package again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
