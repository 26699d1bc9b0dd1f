from __future__ import annotations

import pytest

from durable.patches.credentials import counted_url, redirected_url, scrub, secrets_of, shown_body, shown_url


@pytest.mark.parametrize(
    ("url", "counted", "shown"),
    [
        ("http://a/b?page=2&c=d", "http://a/b?page=2&c=d", "http://a/b?page=2&c=d"),
        ("https://user:word@a:8/b#c", "https://a:8/b", "https://a:8/b"),
        ("http://a/?token=x&page=2", "http://a/?token=…&page=2", "http://a/?token=…&page=2"),
        ("http://a/?Api_Key=x", "http://a/?Api_Key=…", "http://a/?Api_Key=…"),
        ("http://a/?key=b&page_token=c", "http://a/?key=b&page_token=c", "http://a/?key=…&page_token=…"),
        ("http://a/?q=" + "x" * 30, "http://a/?q=" + "x" * 30, "http://a/?q=…"),
        ("http://a/bot123:" + "x" * 30 + "/send", "http://a/bot123:" + "x" * 30 + "/send", "http://a/…/send"),
        ("http://a", "http://a", "http://a"),
    ],
)
def test_what_counts_and_what_is_shown(url: str, counted: str, shown: str) -> None:
    """Credentials neither count nor are seen; what may be one counts, but is not seen."""
    assert (counted_url(url), shown_url(url)) == (counted, shown)


def test_only_a_redirect_is_stored() -> None:
    """The address that was asked is known when the call is made again, so it is not stored."""
    assert redirected_url("http://a/?key=b", "http://a/?key=b") is None
    assert redirected_url("http://b/?key=c&d=e", "http://a") == "http://b/?key=…&d=e"


def test_exceptions_tell_no_secrets() -> None:
    """Neither does the text of an exception hold a secret of the address, nor that of one behind it."""
    cause = OSError("to http://a/?token=first failed")
    error = ValueError(cause, "http://user:second@a/", 7)
    error.__cause__ = KeyError("a%20b")
    secrets = secrets_of("http://user:second@a/?token=first&key=a%20b")
    scrub(error, secrets)
    assert str(error) == "(OSError('to http://a/?token=… failed'), 'http://…@a/', 7)"
    assert str(error.__cause__) == "'…'"


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (
            b'{"order": 7, "to": {"name": "Ada", "password": "p"}}',
            "",
            "<52 bytes: order=7, to.name=Ada, to.password=…>",
        ),
        (b'[{"id": 1.5}, {"id": null, "paid": true}]', "", "<41 bytes: 0.id=1.5, 1.paid=True>"),
        (
            b"cents=5&card[cvc]=1&no=4242 4242 4242 4242",
            "application/x-www-form-urlencoded",
            "cents=5, card[cvc]=…, no=…>",
        ),
        ({"cents": 5}, "application/json", "<dict: cents=5>"),
        (b'{"text": "' + b"x" * 30 + b'", "a": "sk_live"}', "application/json", "text=…, a=…>"),
        (b'{"broken', "application/json", "<8 bytes>"),
        (b"[" * 60_000, "", "<60000 bytes>"),
        (b"\xff=1", "application/x-www-form-urlencoded", "<3 bytes>"),
        (b"anything", "text/plain", "<8 bytes>"),
        (None, "", "<NoneType>"),
    ],
)
def test_a_body_shows_which_request_it_was(body: object, kind: str, shown: str) -> None:
    """Short fields of JSON and of forms are seen, but none that may be a secret, or the number of a card."""
    assert shown_body(body, kind).endswith(shown)
