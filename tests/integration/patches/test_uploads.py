"""What is uploaded by an SDK counts by its content, and each attempt sends all of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pytest
import stripe

import durable
from durable import workflow
from durable.patches.uploads import with_contents
from tests.integration.patches.sdk_forms import of_openai
from tests.paid_services import REFUSED, PaidServices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 10_000


@pytest.fixture(scope="module", autouse=True)
def patched_too() -> None:
    """Beside the HTTP clients that they stand on, which are patched as well."""
    durable.patch("openai", "stripe")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[PaidServices]:
    with PaidServices(tmp_path / "ledger") as api:
        yield api


class ReadOnce(io.FileIO):
    """What can be read from its beginning to its end, and no more."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file to send."""
    path = tmp_path / "upload"
    path.write_bytes(b"1" * SIZE)
    return path


def to_stripe(api: PaidServices, file: Any) -> Any:
    addresses: Any = {"api": api.url, "files": api.url}
    client = stripe.StripeClient("sk_test", base_addresses=addresses, max_network_retries=2)
    return client.v1.files.create({"purpose": "dispute_evidence", "file": file}).id


def to_openai(api: PaidServices, file: Any) -> Any:
    return of_openai(api, max_retries=2).files.create(file=("x", file), purpose="batch").id


def sent(api: PaidServices) -> list[int]:
    return [charge["bytes"] for charge in api.charges()]


def test_another_file_is_another_call(api: PaidServices, path: Path) -> None:
    """A file that has changed since the last execution is uploaded, and not taken for the one that was."""

    @workflow(run_id="files")
    def run() -> None:
        with path.open("rb") as file:
            to_stripe(api, file)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            run()
    path.write_bytes(b"2" * SIZE)
    with pytest.raises(LookupError), pytest.warns(durable.DurableWarning, match="params"):
        run()
    assert len(sent(api)) == 2


@pytest.mark.parametrize("upload", [to_stripe, to_openai])
def test_an_upload_that_is_tried_again_is_whole(upload: Callable[..., Any], api: PaidServices, path: Path) -> None:
    """The second attempt sends what the first one sent, and not the nothing that is left of it."""
    api.planned = [REFUSED]

    @workflow(run_id="again")
    def run() -> None:
        with path.open("rb") as file:
            upload(api, file)

    run()
    [size] = sent(api)
    assert size >= SIZE
    assert durable.get_run("again").steps[0].attempts == 2


@pytest.mark.parametrize("upload", [to_stripe, to_openai])
def test_what_can_be_read_once_is_sent_once(upload: Callable[..., Any], api: PaidServices, path: Path) -> None:
    """An upload that was refused and cannot be read again is a failure, and not an empty upload."""
    api.planned = [REFUSED]

    @workflow(run_id="once")
    def run() -> None:
        with ReadOnce(path) as file:
            upload(api, file)

    with pytest.raises((openai.RateLimitError, stripe.RateLimitError)):
        run()
    assert sent(api) == []
    run()
    assert len(sent(api)) == 1


class Part(NamedTuple):
    """What somebody passes for a pair."""

    name: str
    file: io.BytesIO


def test_named_tuples_are_read_too() -> None:
    """A file in a named tuple counts by its content, wherever that stands."""
    assert with_contents([{"parts": (Part("a", io.BytesIO(b"1")), 2)}]) == [{"parts": (("a", b"1"), 2)}]
