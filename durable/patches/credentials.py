"""What is shown, stored or counted of a request holds no credential: not of its address, headers or exceptions."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit, urlunsplit

from durable.identity.secrets_of_calls import is_secret_name, looks_secret

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
_IS_PRIVATE = re.compile("card|cvc|cvv|iban|account|ssn|pin|otp|birth")
_NUMBER = re.compile(r"(?:\d[ -]?){12,}")  # of a card
_READ, _DEPTH, _FIELDS = 65_536, 4, 12  # bytes up to which a body is looked into; how deep; how many fields are shown
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


def shown_body(body: object, kind: str) -> str:
    """Give what people may see of a body of this content type: its size, and such fields as say which request it was."""
    fields = ""
    if not isinstance(body, bytes):
        fields = shown_fields(body) if isinstance(body, Mapping | list) else ""
    elif len(body) <= _READ:
        with contextlib.suppress(ValueError, RecursionError):
            if "json" in kind or body[:1] in (b"{", b"["):
                fields = shown_fields(json.loads(body))
            elif "x-www-form-urlencoded" in kind:
                fields = shown_fields(dict(parse_qsl(body.decode())))
    size = f"{len(body)} bytes" if isinstance(body, bytes) else type(body).__name__
    return f"<{size}: {fields}>" if fields else f"<{size}>"


def shown_fields(value: object) -> str:
    """Name the first fields of what is sent, with what is short and cannot be a secret by its name or looks."""
    return ", ".join(f"{name}={shown}" for name, shown in islice(_fields("", value, _DEPTH), _FIELDS))


def _fields(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for part, each in pairs if depth else ():
            yield from _fields(f"{name}.{part}" if name else str(part), each, depth - 1)
    elif isinstance(value, str | int | float | Decimal):
        yield name, _HIDDEN if _may_be_secret(name, str(value)) else str(value)


def _may_be_secret(name: str, text: str) -> bool:
    if len(text) >= _LONG or _LOOKS_SECRET.search(name.lower()) or _IS_PRIVATE.search(name.lower()):
        return True
    return is_secret_name(name) or looks_secret(text) or bool(_NUMBER.fullmatch(text))


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
    if fields := getattr(type(value), "__attrs_attrs__", ()):  # aiohttp before 3.11
        return type(value)(*(_without(getattr(value, each.name), secrets) for each in fields))
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
