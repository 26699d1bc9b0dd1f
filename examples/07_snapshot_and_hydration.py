"""A run fails half-way on one machine and goes on in the store of another, from a snapshot that is plain JSON.

Command:

    python examples/07_snapshot_and_hydration.py

Expected output:

    1. first store: the upload fails
       rendering report
       uploading <h1>report</h1>
       ConnectionError: no route to host
    2. the snapshot is JSON
       render: succeeded, '<h1>report</h1>'
       upload: failed, None
    3. second store: the snapshot goes on
       uploading <h1>report</h1>
       https://example.com/report, 2 steps done
    4. the same call again
       https://example.com/report, 2 steps done
"""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import durable
from durable import task, workflow

network_is_down = True


@task
def render(name: str) -> str:
    print(f"   rendering {name}")
    durable.state.add("done", 1)  # kept with the step's result
    return f"<h1>{name}</h1>"


@task
def upload(name: str, page: str) -> str:
    print(f"   uploading {page}")
    if network_is_down:
        raise ConnectionError("no route to host")
    durable.state.add("done", 1)
    return f"https://example.com/{name}"


@workflow
def publish(name: str) -> str:
    address = upload(name, render(name))
    return f"{address}, {durable.state['done']} steps done"


def main() -> None:
    global network_is_down
    folder = Path(tempfile.mkdtemp())
    print("1. first store: the upload fails")
    durable.configure(folder / "first.db")
    try:
        publish("report")
    except ConnectionError as error:
        print(f"   ConnectionError: {error}")
    print("2. the snapshot is JSON")
    text = json.dumps(durable.list_runs(workflow=publish.definition.full_name)[0].snapshot())
    for key, step in json.loads(text)["steps"].items():
        print(f"   {key.partition(':')[0]}: {step['status']}, {step['result']!r}")
    print("3. second store: the snapshot goes on")
    durable.configure(folder / "second.db")
    network_is_down = False
    hydrated = publish.with_options(snapshot=json.loads(text))
    print(f"   {hydrated('report')}\n4. the same call again")
    print(f"   {hydrated('report')}")


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):  # the lines for people carry times
        main()
