"""Functions and libraries are patched where they are found, once, and what cannot be meant is refused before that."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import subprocess
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import ConfigurationError, DefinitionError, Task, workflow
from durable.patches import install

if TYPE_CHECKING:
    from pathlib import Path

PAYMENTS = """
    calls = []

    def charge(customer, cents=5):
        "Charge somebody."
        calls.append((customer, cents))
        return len(calls)

    async def refund(customer):
        calls.append(customer)
        return len(calls)

    class Client:
        def __init__(self, token):
            self.token = token

        def pay(self, cents):
            calls.append(cents)
            return len(calls)

        @staticmethod
        def ping():
            calls.append("ping")

        @classmethod
        def made(cls, token):
            calls.append("made")
            return token

    class Sub(Client):
        pass

    RATE = 7
"""


@pytest.fixture
def payments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module that nobody has imported."""
    name = f"payments_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PAYMENTS))
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("is_imported", [True, False])
def test_a_function_becomes_a_task(payments: str, is_imported: bool) -> None:
    """Its calls are steps wherever it was imported to, before or after; outside a run it is the function, without a word."""
    user = type(sys)("user")
    sys.modules["user"] = user
    if is_imported:
        exec(f"from {payments} import charge, refund", vars(user))
    durable.patch(f"{payments}:charge", idempotent=False, key="{customer}")
    module: Any = importlib.import_module(payments)
    if not is_imported:
        exec(f"from {payments} import charge, refund", vars(user))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert user.charge("eve") == 1

    @workflow(run_id="w")
    def run() -> None:
        user.charge("ada")
        module.charge("bob", cents=6)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert module.calls == [("eve", 5), ("ada", 5), ("bob", 6)]
    assert [step.key for step in durable.get_run("w").steps] == ["charge:ada", "charge:bob"]
    assert isinstance(module.charge, Task)
    assert module.charge.__doc__ == "Charge somebody."
    assert str(inspect.signature(module.charge)) == "(customer, cents=5)"
    del sys.modules["user"]


def test_methods_become_tasks(payments: str) -> None:
    """Methods of objects and classes, static ones and inherited ones."""
    install({f"{payments}:Sub.pay": {}, f"{payments}:Client.ping": {}}, [])
    install({f"{payments}:Client.made": {}, f"{payments}:refund": {}}, [])
    module: Any = importlib.import_module(payments)

    @workflow(run_id="w")
    async def run() -> None:
        client = module.Sub("token")
        assert client.pay(5) == 1
        module.Client.ping()
        assert module.Client.made("x") == "x"
        assert await module.refund("ada") == 4
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            asyncio.run(run())
    assert module.calls == [5, "ping", "made", "ada"]
    assert inspect.iscoroutinefunction(module.refund)


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("{}:chagre", "Did you mean 'charge'?"),
        ("{}:Client.pya", "Did you mean 'pay'?"),
        ("{}:Clint.pay", "Did you mean 'Client'?"),
        ("{}:RATE", "no function: 7"),
        ("{}:Client", "name one of its methods"),
        ("jsom:dumps", "Did you mean 'json'?"),
        ("json.decoderr:loads", "Did you mean 'decoder'?"),
        ("{}", "write module:function"),
        ("{}:", "write module:function"),
        (":charge", "write module:function"),
    ],
)
@pytest.mark.parametrize("is_imported", [True, False])
def test_targets_that_are_not_there(target: str, hint: str, is_imported: bool, payments: str) -> None:
    """An error names the target and what is nearest to it; at the latest when its module is imported."""
    if is_imported:
        importlib.import_module(payments)
    with pytest.raises(ConfigurationError) as raised:
        install({target.format(payments): {}}, [])
        importlib.import_module(payments)
    assert hint in str(raised.value)
    assert target.format(payments) in str(raised.value)


def test_presets_that_are_not_there() -> None:
    """An unknown preset is an error that names the nearest one, and nothing is patched."""
    with pytest.raises(ConfigurationError, match="There is no preset 'request'. Did you mean 'requests'?"):
        install({"json:dumps": {}}, ["smtplib", "request"])
    assert not isinstance(json.dumps, Task)


def test_options_that_cannot_be_meant(payments: str) -> None:
    """Options are those of @task; presets take none; a function is made a task once."""
    with pytest.raises(DefinitionError, match="no option 'idempotnet'. Did you mean 'idempotent'?"):
        durable.patch(f"{payments}:charge", idempotnet=False)
    with pytest.raises(ConfigurationError, match="options belong to targets, and 'requests' is a preset"):
        durable.patch(f"{payments}:charge", "requests", idempotent=False)
    durable.patch(f"{payments}:charge", idempotent=False)
    durable.patch(f"{payments}:charge", idempotent=False)
    with pytest.raises(ConfigurationError, match="is a task already, with other options"):
        durable.patch(f"{payments}:charge")


def test_a_library_that_is_not_installed(tmp_path: Path) -> None:
    """A preset says that its library is missing before anything is executed."""
    program = (
        "import sys, durable, durable.patches\n"
        "sys.path[:] = [each for each in sys.path if 'site-packages' not in each]\n"
        "durable.patch('httpx')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "ConfigurationError: Preset 'httpx' cannot be used here." in done.stderr
    assert "Is the library installed" in done.stderr


PLUGIN = """
    from durable.patches import Action, Patch, Preset

    def describe(function, instance, args, kwargs):
        return Action(task="shop.buy", inputs={"item": args[0]}, perform=lambda: function(*args, **kwargs), idempotent=False)

    PRESET = Preset(
        name="shop",
        patches=(Patch(target="shop:buy", describe=describe),),
        tasks=("shop.buy",),
        targets={"shop:look": {"key": "{item}"}},
    )
    WRONG = 7
"""
PROGRAM = """
    import sys
    import durable
    durable.patch("shop")
    import shop

    @durable.workflow(run_id="w")
    def run():
        print(shop.buy("apple"), shop.look("pear"))
        raise ValueError

    for _ in range(2):
        try:
            run()
        except ValueError:
            pass
    print([step.key for step in durable.get_run("w").steps])
    for name in ("broken", "wrong", "shopp"):
        try:
            durable.patch(name)
        except durable.ConfigurationError as error:
            print(error)
"""


def test_a_preset_of_somebody_else(tmp_path: Path) -> None:
    """A package that is installed with an entry point of the group adds a preset; one that cannot be loaded says so."""
    site = tmp_path / "site"
    info = site / "shop_presets-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-presets\nVersion: 1.0\n")
    (info / "RECORD").write_text("")
    entries = ["shop = shop_presets:PRESET", "broken = shop_presets:NOTHING", "wrong = shop_presets:WRONG"]
    (info / "entry_points.txt").write_text("\n".join(["[durable.presets]", *entries, ""]))
    (site / "shop_presets.py").write_text(textwrap.dedent(PLUGIN))
    (site / "shop.py").write_text(
        "def buy(item):\n    print('buying')\n    return 5\n\ndef look(item):\n    return item\n"
    )
    program = f"import sys\nsys.path.append({str(site)!r})\n" + textwrap.dedent(PROGRAM)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["buying", "5 pear", "5 pear"]
    assert lines[3].startswith("['shop.buy:")
    assert lines[3].endswith("'look:pear']")
    assert "Preset 'broken' cannot be loaded" in lines[4]
    assert "is of type int, not a durable.patches.Preset" in lines[5]
    assert "There is no preset 'shopp'. Did you mean 'shop'?" in lines[6]


def test_patching_imports_no_library(tmp_path: Path) -> None:
    """A preset waits until its library is imported, and `import durable` knows none of this."""
    program = (
        "import sys, durable\nassert 'durable.patches' not in sys.modules\n"
        "durable.patch('requests', 'httpx', 'aiohttp')\n"
        "print([name for name in ('requests', 'httpx', 'aiohttp', 'urllib3', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
