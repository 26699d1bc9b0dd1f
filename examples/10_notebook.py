"""Execute a notebook whose kernel is killed in the middle of a cell, and "run all" again: nothing is paid for twice.

Needs a kernel and something that runs all cells: pip install "durable[notebook]" ipykernel nbclient

Expected output:
Run all: the kernel died
charged: page 0, page 1, page 2
Run all: 4 answers, 62 characters
charged: page 0, page 1, page 2, page 3
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

CELLS = (
    """
%load_ext durable
%durable start questions
""",
    """
import os, signal
from pathlib import Path
from durable import task

ledger = Path("ledger.txt")

@task(idempotent=False)                 # each call costs money
def ask_model(page):
    with ledger.open("a") as charged:
        charged.write(f"page {page}\\n")
    return f"answer {page}"
""",
    """
answers = []
for page in range(4):
    answers.append(ask_model(page))
    if page == 2 and not Path("restarted").exists():
        Path("restarted").touch()
        os.kill(os.getpid(), signal.SIGKILL)
""",
    """
%%durable joined
text = " and then ".join(answers)       # stored, and restored while code and inputs are the same
""",
    'print(f"{len(answers)} answers, {len(text)} characters")',
)


def run_all(folder: str) -> str:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, extra_arguments=["--log-level=ERROR"])
    try:
        client.execute()
    except DeadKernelError:
        return "the kernel died"
    return str(notebook.cells[-1].outputs[0].text).strip()


with tempfile.TemporaryDirectory() as folder:
    os.environ["DURABLE_DB"] = f"{folder}/durable.db"
    for _ in range(2):
        print("Run all:", run_all(folder))
        print("charged:", ", ".join(Path(folder, "ledger.txt").read_text().splitlines()))
