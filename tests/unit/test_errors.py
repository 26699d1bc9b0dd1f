from __future__ import annotations

import copy
import pickle

import pytest

from durable import errors

IN_DOUBT = errors.StepInDoubtError("Step 'pay:1' of run r is in doubt.", "r", "pay:1", "key")
CARRYING: list[tuple[errors.DurableError, dict[str, str]]] = [
    (errors.RunInProgressError("Run r is in progress.", "r"), {"run_id": "r"}),
    (errors.RunCancelledError("Run r was cancelled."), {"run_id": ""}),
    (IN_DOUBT, {"run_id": "r", "step_key": "pay:1", "idempotency_key": "key"}),
    (errors.CrashLoopError("again", "r", "s", "k"), {"run_id": "r", "step_key": "s", "idempotency_key": "k"}),
    (errors.ReplayedError("shop.Refused", "no"), {"type_name": "shop.Refused", "message": "no"}),
]


@pytest.mark.parametrize(("error", "attributes"), CARRYING, ids=lambda value: type(value).__name__)
def test_what_an_error_carries_survives(error: errors.DurableError, attributes: dict[str, str]) -> None:
    """Attributes and message are the same after pickle and copy, and the message alone is shown."""
    for again in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert {name: getattr(again, name) for name in attributes} == attributes
        assert str(again) == str(error)
        assert "('" not in str(again)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.DefinitionError, ValueError),
        (errors.FingerprintError, TypeError),
        (errors.NotSerializableError, TypeError),
        (errors.NotFoundError, LookupError),
        (errors.LostAttributeError, AttributeError),
        (errors.OutsideRunError, RuntimeError),
        (errors.WouldDeadlockError, RuntimeError),
    ],
)
def test_errors_are_caught_as_what_they_are(kind: type[errors.DurableError], builtin: type[Exception]) -> None:
    """An error is also the builtin that a plain function would raise, and is shown with its message, not its repr."""
    with pytest.raises(builtin) as caught:
        raise kind("There is no 'x'.")
    assert str(caught.value) == "There is no 'x'."


def test_what_stops_an_execution_is_not_caught_by_accident() -> None:
    """Control flow passes `except Exception` and says with which error the execution ends."""
    with pytest.raises(errors.ExecutionStopped) as stopped:
        try:
            raise errors.ExecutionStopped(IN_DOUBT)
        except Exception:
            pytest.fail("was caught")
    assert stopped.value.error is IN_DOUBT
