"""What is shown, stored or counted of a request holds no credential: not of its address, headers or exceptions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HIDDEN = "…"
_CREDENTIALS = frozenset(
    {
        *("access_token", "auth_token", "id_token", "refresh_token", "token", "oauth_token", "jwt"),
        *("api_key", "apikey", "api-key", "x-api-key", "subscription-key", "client_secret", "secret"),
        *("password", "passwd", "pwd", "auth", "authorization", "session", "sessionid", "session_id", "sid"),
        *("sig", "signature", "hmac", "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-amz-date"),
        *("awsaccesskeyid", "x-goog-signature", "x-goog-credential", "x-goog-date"),
    }
)
_LOOKS_SECRET = re.compile("token|secret|key|pass|pwd|auth|cred|session|sid|sig|jwt|hmac")
_LONG = 24  # characters from which a part of a path is taken for a secret: `/bot123:AAF…/sendMessage`


def counted_url(url: str) -> str:
    """Give what identifies the addressee: without user, password, fragment and the values of parameters for credentials."""
    return _rewritten(url, lambda name, _: name in _CREDENTIALS, lambda _: False)


def redirected_url(url: str, asked: str) -> str | None:
    """Give what is stored of the address that a response came from, None if it is the one that was asked."""
    if url == asked:
        return None
    return _rewritten(url, lambda name, _: bool(_LOOKS_SECRET.search(name)), lambda _: False)


def shown_url(url: str) -> str:
    """Give what people may see of an address; what may be a secret is left out."""
    return _rewritten(
        url,
        lambda name, value: bool(_LOOKS_SECRET.search(name)) or len(value) >= _LONG,
        lambda part: len(part) >= _LONG,
    )


def secrets_of(url: str) -> list[str]:
    """List the parts of an address that must not be in any text."""
    found = []
    parts = urlsplit(url)
    for name, value in _parameters(parts.query):
        if value and _LOOKS_SECRET.search(name):
            found += [value, unquote_plus(value)]
    user, _, _ = parts.netloc.rpartition("@")
    found += [part for part in (user.partition(":")[2], user) if part]
    found += [part for part in parts.path.split("/") if len(part) >= _LONG]
    return sorted(set(found), key=len, reverse=True)


def scrub(error: BaseException, secrets: list[str]) -> None:
    """Take secrets out of the texts of an exception and of those behind it."""
    waiting: list[object] = [error] if secrets else []
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        current.args = tuple(_without(each, secrets) for each in current.args)
        for name, value in list(vars(current).items()):
            if (cleaned := _without(value, secrets)) is not value:
                setattr(current, name, cleaned)
        waiting += [*current.args, *vars(current).values(), current.__cause__, current.__context__]


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_replace"):  # as aiohttp says what was asked for
        return type(value)(*(_without(each, secrets) for each in value))
    if hasattr(type(value), "__attrs_attrs__"):  # aiohttp before 3.11
        return type(value)(*(_without(getattr(value, each.name), secrets) for each in type(value).__attrs_attrs__))
    text = str(value) if type(value).__name__ in ("str", "URL") else ""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return type(value)(text) if text and text != str(value) else value


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for each in query.split("&"):
        name, _, value = each.partition("=")
        yield unquote_plus(name).lower(), value


def _rewritten(url: str, hides: Callable[[str, str], bool], hides_part: Callable[[str], bool]) -> str:
    parts = urlsplit(url)
    path = "/".join(_HIDDEN if hides_part(part) else part for part in parts.path.split("/"))
    pairs = (
        f"{each.partition('=')[0]}={_HIDDEN}" if hides(*next(_parameters(each))) else each
        for each in parts.query.split("&")
    )
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "&".join(pairs), ""))
