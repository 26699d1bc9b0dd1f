"""A program without a file, from `python -c` or standard input, is known by its functions: its name is that of all others.

Shells and notebooks are left out: there, functions are edited while a run goes on.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from types import FunctionType
from typing import TYPE_CHECKING

from durable.declarations.naming import module_name, script_path
from durable.identity.encoding import Unencodable, encode

if TYPE_CHECKING:
    from durable.declarations.definitions import Definition

_FILES = ("<string>", "<stdin>")  # what the code of such programs is said to stand in


def program_digest(definition: Definition) -> str | None:
    """Digest the functions of a program without a file; None for all other programs, and for a function with a name=."""
    function = definition.plain
    if definition.name is not None or module_name(function) != "__main__" or script_path(function) is not None:
        return None
    code = getattr(function, "__code__", None)
    if code is None or code.co_filename not in _FILES or hasattr(sys, "ps1") or sys.flags.interactive:
        return None
    found = {name: _code_of(value) for name, value in vars(sys.modules["__main__"]).items()}
    try:
        data = encode({name: code for name, code in found.items() if code is not None})
    except Unencodable:
        return None
    release = "{}.{}".format(*sys.version_info)  # bytecode is that of one release
    return f"{release} {blake2b(data, digest_size=16).hexdigest()}"


def is_another(recorded: str | None, current: str | None) -> bool:
    """Whether two digests are of different programs, as far as one release of Python can tell."""
    if recorded is not None and current is not None and recorded.split()[0] != current.split()[0]:
        return False
    return recorded != current


def _code_of(value: object) -> object:
    function = getattr(value, "__wrapped__", value)
    return function.__code__ if isinstance(function, FunctionType) and function.__module__ == "__main__" else None
