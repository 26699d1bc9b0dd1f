"""From a URL or path to an open store; back-ends are imported when they are asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from durable.stores.protocol import Store

_GROUP = "durable.stores"


def open_store(location: str | os.PathLike[str]) -> Store:
    """Open the store at a path or URL: `memory:`, `sqlite:///path`, or a scheme that another package registered.

    Other packages register a function of the URL under the entry point group `durable.stores`, named by the scheme.
    Raises `ConfigurationError` for an unknown scheme, else what opening the store raises.
    """
    url = os.fspath(location)
    scheme, separator, rest = url.partition("://")
    if url in {"memory:", "memory://"}:
        from durable.stores.memory import MemoryStore  # noqa: PLC0415 -- only the back-end in use is imported

        return MemoryStore()
    if not separator or scheme == "sqlite":
        from durable.stores.sql.sqlite import SQLiteStore  # noqa: PLC0415 -- see above

        path = rest.removeprefix("/") if separator else url
        if not path:
            raise ConfigurationError(
                f"{url!r} names no file. Write sqlite:///relative/path or sqlite:////absolute/path."
            )
        return SQLiteStore(path)
    from importlib import metadata  # noqa: PLC0415 -- slow to import, needed for stores of other packages only

    for point in metadata.entry_points(group=_GROUP, name=scheme):
        opened: Store = point.load()(url)
        return opened
    known = sorted({"memory", "sqlite", *(point.name for point in metadata.entry_points(group=_GROUP))})
    raise ConfigurationError(f"There is no store for {scheme}:// URLs. Known: {', '.join(known)}, or a path.")
