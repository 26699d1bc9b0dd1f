"""`import durable.auto` does for `python script.py` what `durable run script.py` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder

SETTINGS = '[tool.durable.tasks]\n"job.py:work" = {idempotent = false, key = "{item}"}\n'
JOB = '''
    """What it does."""
    from __future__ import annotations

    import durable.auto
    import multiprocessing, os, sys

    def work(item):
        open("ledger", "a").write(f"{item}\\n")
        return item

    def square(x):
        return x * x

    if __name__ == "__main__":
        print(__doc__, __name__, sys.argv[1:], [work(item) for item in range(3)])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(square, [2]))
        if "fail" in sys.argv:
            sys.exit(4)
'''
PRINTED = "What it does. __main__ [] [0, 1, 2]\n[4]\n"


@pytest.mark.parametrize("start", [("job.py",), ("-m", "job")], ids=["script", "module"])
def test_a_script_with_the_line_is_a_run(folder: Folder, start: tuple[str, ...]) -> None:
    """Started by Python, the script is a run: started again, it is replayed; the exit code is its own."""
    folder.write("pyproject.toml", SETTINGS)
    folder.write("job.py", JOB)
    first, again, failed = folder.python(*start), folder.python(*start), folder.python(*start, "fail")
    assert (first.returncode, first.stdout) == (0, PRINTED)
    assert "durable.auto has no effect" not in first.stderr
    assert (again.returncode, again.stdout) == (0, PRINTED)
    assert "For a new run: DURABLE_FRESH=1." in again.stderr
    assert failed.returncode == 4
    assert (folder.path / "ledger").read_text().split() == ["0", "1", "2"] * 2


def test_the_command_and_the_line_mean_the_same_run(folder: Folder) -> None:
    """`durable run job.py` replays what `python job.py` has done."""
    folder.write("pyproject.toml", SETTINGS)
    folder.write("job.py", JOB)
    folder.python("job.py")
    done = folder.run("job.py")
    assert done.stdout == PRINTED
    assert (folder.path / "ledger").read_text().split() == ["0", "1", "2"]


def test_it_says_where_it_has_no_effect(folder: Folder) -> None:
    """In a module that is not the main script, and in a program without a file, a warning says so; nothing is recorded."""
    folder.write("job.py", JOB)
    folder.write("main.py", "import job\nprint(job.work(1))\n")
    imported = folder.python("main.py")
    assert (imported.returncode, imported.stdout) == (0, "1\n")
    assert "job.py:5: DurableWarning: import durable.auto has no effect in module 'job'" in imported.stderr
    inline = folder.python("-c", "import durable.auto; print(1)")
    assert (inline.returncode, inline.stdout) == (0, "1\n")
    assert "has no effect in a program without a file" in inline.stderr


def test_it_has_to_be_the_first_statement(folder: Folder) -> None:
    """A statement before the import would be executed twice, so the program ends with 2 and the line is named."""
    folder.write("late.py", "import sys\nopen('ledger', 'a').write('x')\nimport durable.auto\nprint(1)\n")
    done = folder.python("late.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "late.py, line 1: this stands before `import durable.auto`" in done.stderr
