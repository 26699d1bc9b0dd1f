"""Which arguments are credentials, by their names and looks: what is shown or stored for people holds none of them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.identity.calls import Call

_SECRET_NAMES = (
    *("password", "passwd", "passphrase", "passcode", "secret", "token", "credential"),
    *("authorization", "authentication"),
    *("api_key", "apikey", "access_key", "accesskey", "private_key", "privatekey", "signing_key", "encryption_key"),
    *("cookie", "bearer", "header", "session_id", "sessionid", "webhook_url", "connection_string"),
)
_SECRET_WORDS = frozenset(
    {"auth", "pwd", "pass", "pin", "otp", "totp", "jwt", "pat", "dsn", "sid", "csrf", "hmac", "sig"}
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_BEGINNINGS = re.compile(
    r"(?:Bearer|Basic|Token|Digest)\s+\S|sk[-_]|pk[-_]|rk_|whsec_|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|AIza|eyJ"
    r"|-----BEGIN|ya29\.|hf_|npm_|pypi-"
)
_USER = re.compile(r"(://)[^/\s@]*@")
_PARAMETER = re.compile(r"([?&;#]([^=&;#\s]+)=)[^&;#\s]*")
_LITERAL = re.compile(
    r"""(?P<before>(?:["']?(?P<name>[\w-]+)["']?\s*[:=]\s*)?[fbr]{0,2}(?P<quote>["']))(?P<text>(?:(?!(?P=quote)).)+)(?P=quote)"""
)
_SOURCE = re.compile(r"^    .*$", re.MULTILINE)  # of a traceback
_CHANGES = re.compile(r"(?<=[A-Za-z])\d|(?<=\d)[A-Za-z]")
_LONG, _MANY_CHANGES = 16, 4  # characters; changes between letters and digits
_DEPTH, _ITEMS = 3, 100  # how far is looked into containers
_LEAST = 4  # characters of what is looked for in texts


@cache
def is_secret_name(name: str) -> bool:
    """Whether a parameter is named like a credential."""
    lowered = name.lower().replace("-", "_")
    return any(part in lowered for part in _SECRET_NAMES) or not _SECRET_WORDS.isdisjoint(
        word.lower() for word in _WORDS.findall(name)
    )


def looks_secret(text: str) -> bool:
    """Whether a text looks like a credential, whatever it is called: by how it begins, or long and as if made by chance."""
    if _BEGINNINGS.match(text):
        return True
    return len(text) >= _LONG and not any(map(str.isspace, text)) and len(_CHANGES.findall(text)) >= _MANY_CHANGES


def without_credentials(text: str) -> str:
    """Take user, password and the values of parameters that are named like credentials out of the addresses in a text."""
    shown = _USER.sub(r"\1(hidden)@", text)
    return _PARAMETER.sub(lambda found: f"{found[1]}(hidden)" if is_secret_name(found[2]) else found[0], shown)


def without_literals(traceback: str) -> str:
    """Take what is named or looks like a credential out of the lines of source in a traceback."""
    return _SOURCE.sub(lambda line: _LITERAL.sub(_hidden_literal, line[0]), traceback)


def _hidden_literal(found: re.Match[str]) -> str:
    name, text = found["name"], found["text"]
    is_secret = looks_secret(text) or (name is not None and is_secret_name(name))
    return f"{found['before']}(hidden){found['quote']}" if is_secret else found[0]


def secret_texts(arguments: Iterable[tuple[str, bytes, object]]) -> list[str]:
    """List the values of arguments that are named like credentials."""
    found = [str(value) for name, _, value in arguments if isinstance(value, str) and is_secret_name(name)]
    return [text for text in found if len(text) >= _LEAST]


def holds_secrets(call: Call) -> bool:
    """Whether what a call was given may hold credentials: it is sensitive, a method of an object, or says so itself."""
    if call.task.sensitive or call.instance is not None:
        return True
    return any(_is_secret(name, value, _DEPTH) for name, value in call.values.items())


def _is_secret(name: object, value: object, depth: int) -> bool:
    if isinstance(name, str) and is_secret_name(name):
        return True
    if isinstance(value, str):
        return looks_secret(value) or without_credentials(value) != value
    if not depth:
        return False
    if isinstance(value, dict):
        return any(_is_secret(key, item, depth - 1) for key, item in value.items())
    return isinstance(value, list | tuple) and any(_is_secret("", item, depth - 1) for item in value[:_ITEMS])
