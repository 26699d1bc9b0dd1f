"""Payments that programs under test make: known by their arguments or by a key, and counted where they happen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from durable import task
from tests.crash.effects import did

if TYPE_CHECKING:
    from durable import Task


@task(idempotent=False)
def pay(order: str) -> str:
    did(f"pay {order}")
    return f"paid {order}"


@task(idempotent=False, key="{order}")
def pay_by_key(order: str) -> str:
    did(f"pay {order}")
    return f"paid {order}"


def way_to_pay() -> Task[[str], str]:
    """Give what the program was started to pay with."""
    return pay_by_key if os.environ.get("BY") == "key" else pay
