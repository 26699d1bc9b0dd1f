from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = 50
AT_ONCE = 2


def digests_of_another_process(seed: int) -> dict[str, list[str]]:
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-m", "tests.integration.fingerprint_corpus"]
    output = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120).stdout
    return json.loads(output)  # type: ignore[no-any-return]  # what the program prints


@pytest.fixture(scope="module")
def processes() -> list[dict[str, list[str]]]:
    seeds = random.Random(7).sample(range(2**32), PROCESSES)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(digests_of_another_process, seeds))


@pytest.mark.slow
def test_every_process_computes_the_same_digests(processes: list[dict[str, list[str]]]) -> None:
    """A value has one digest in fifty processes, each with a hash seed of its own."""
    first = processes[0]
    assert len(first) >= 60
    unstable = {name for name in first for other in processes if other[name] != first[name]}
    assert not unstable


@pytest.mark.slow
def test_near_misses_differ(processes: list[dict[str, list[str]]]) -> None:
    """Values that are almost alike have different digests."""
    alike = [name for name, (value, near_miss) in processes[0].items() if value == near_miss]
    assert not alike


def run(script: Path, *options: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *options, str(script)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


SCRIPT = """
from durable.identity.encoding import digest, encode
from durable.identity.source_code import code_digest
def work(x, y=2):
    return [x * y for x in range(y)]
class Thing:
    def __init__(self): self.callback = lambda value: (value, work)
pair = (lambda: 1, lambda: 2)
for value in (work, Thing(), *pair, lambda a, *, b=3: a + b):
    print(digest(encode(value)).hex())
print(code_digest(work).hex())
"""
REFORMATTED = '''"""A docstring."""

from durable.identity.encoding import digest, encode
from durable.identity.source_code import code_digest

# A comment.
def work(x, y=2):
    """Multiply."""
    return [  # why
        x * y
        for x in range(y)
    ]


class Thing:
    def __init__(self):
        """Set it up."""
        self.callback = lambda value: (
            value,
            work,
        )


pair = (
    (lambda: 1),
    (lambda: 2),
)
for value in (work, Thing(), *pair, lambda a, *, b = 3: a+b):
    print(digest(encode(value)).hex())
print(code_digest(work).hex())
'''


def test_reformatting_a_script_changes_no_digest(tmp_path: Path) -> None:
    """Comments, docstrings and lines leave no trace in the digests of a script's functions and lambdas."""
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text(SCRIPT)
    other.write_text(REFORMATTED)
    assert run(one) == run(other)
    assert len(set(run(one).split())) == 6


def test_lambdas_of_one_line_are_told_apart_without_columns(tmp_path: Path) -> None:
    """An interpreter that keeps no column numbers computes the same digests."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run(script, "-X", "no_debug_ranges") == run(script)


def test_functions_without_source_have_a_digest() -> None:
    """Functions of `python -c` are recognised by their compiled code, in each process alike."""
    code = "from durable.identity.encoding import digest, encode; print(digest(encode(lambda x: x + 1)).hex())"
    outputs = {
        subprocess.run([sys.executable, "-c", text], cwd=ROOT, check=True, capture_output=True, timeout=60).stdout
        for text in (code, "import json\n\n" + code, code.replace("x + 1", "x + 2"))
    }
    assert len(outputs) == 2


def test_encoding_imports_no_third_party_library(tmp_path: Path) -> None:
    """Encoding plain and live values imports none of the libraries whose types are known."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, threading, durable.identity.fingerprints as f\n"
        "f.encode([1, {'a': {2}}, lambda: 3, threading.Lock(), object()])\n"
        "f.cheap_label(object())\n"
        "known = {'numpy', 'pandas', 'polars', 'pydantic', 'attrs', 'dill', 'tenacity', 'sqlalchemy'}\n"
        "print(sorted(known & {*sys.modules}))\n"
    )
    assert run(script).strip() == "[]"
