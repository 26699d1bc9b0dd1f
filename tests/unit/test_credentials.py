from __future__ import annotations

import pytest

from durable.patches.credentials import counted_url, redirected_url, scrub, secrets_of, shown_url


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
