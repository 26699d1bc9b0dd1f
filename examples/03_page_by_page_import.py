"""An import that reads page after page, fails on a bad page, and goes on there when it is called again.

Command:

    python examples/03_page_by_page_import.py

Expected output:

    first call: page 3 cannot be read
      pages fetched: 0 1 2 3 3 3
    second call: imported 12 rows
      pages fetched: 0 1 2 3 3 3 3 4
    third call: imported 12 rows (returned, nothing executed)
      pages fetched: 0 1 2 3 3 3 3 4
"""

import contextlib
import io
import tempfile
from pathlib import Path

import tenacity

import durable
from durable import task, workflow

ROWS = {0: [1, 2, 3], 1: [4, 5, 6], 2: [7, 8], 3: [9, 10], 4: [11, 12]}
fetched: list[int] = []
broken = {3}


@task(retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.01)))
def fetch(source: str, page: int) -> list[int]:
    fetched.append(page)
    if page in broken:
        raise ConnectionError(f"page {page} cannot be read")
    return ROWS.get(page, [])


@task
def store_rows(page: int, rows: list[int]) -> int:
    return len(rows)


@workflow(run_id="import-{source}")
def import_all(source: str) -> int:
    total = 0
    for page in range(len(ROWS)):
        total += store_rows(page, fetch(source, page))
    return total


def main() -> None:
    durable.configure(Path(tempfile.mkdtemp()) / "store.db")
    try:
        import_all("crm")
    except ConnectionError as error:
        print(f"first call: {error}")
    print("  pages fetched:", *fetched)
    broken.clear()
    print(f"second call: imported {import_all('crm')} rows\n  pages fetched:", *fetched)
    print(f"third call: imported {import_all('crm')} rows (returned, nothing executed)\n  pages fetched:", *fetched)


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):  # the lines for people carry times
        main()
