"""A label is one segment of a path: no name, whatever is in it, reads as two.

It stands apart from step keys because decorators need no more of them, and importing them is to cost next to nothing.
"""

from __future__ import annotations

import re

_ESCAPES = str.maketrans({"%": "%25", "/": "%2F", "~": "%7E", ":": "%3A", "\0": "%00", "\n": "%0A", "\r": "%0D"})
_SURROGATE = "[\ud800-\udfff]"  # as in file names that were not written in UTF-8


def escape(text: str) -> str:
    """Make a text a single segment of a path: separators are percent-encoded, and what UTF-8 does not hold."""
    escaped = text.translate(_ESCAPES)
    return escaped if escaped.isascii() else re.sub(_SURROGATE, _escape_surrogate, escaped)


def _escape_surrogate(found: re.Match[str]) -> str:
    return f"%u{ord(found[0]):X}"


def label_prefix(label: str) -> bytes:
    """Frame a task's label as the beginning of what a call says."""
    name = label.encode()
    return len(name).to_bytes(4, "big") + name
