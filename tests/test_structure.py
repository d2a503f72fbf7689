"""The shape of the project: small modules and functions, described tox environments, one version, a silent import."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agenthub.dialects.ledger import TO_NATIVE, TO_OPENAI
from tests.length_check import ROOT, modules, too_long
from tests.wire_document import PAGE, render

DISTRIBUTIONS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/setup.cfg"))]


def declaration(path: Path) -> configparser.ConfigParser:
    """A setup.cfg or tox.ini, read as it stands."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def test_modules_and_functions_are_short() -> None:
    """No module has more than 300 lines, no function more than 45."""
    checked = modules()
    assert ROOT / "agenthub" / "__init__.py" in checked
    assert [line for module in checked for line in too_long(module)] == []


def test_the_length_check_counts_to_the_line(tmp_path: Path) -> None:
    """A function of 45 lines in a module of 300 passes; one line more of each is reported."""
    module = tmp_path / "module.py"
    module.write_text("def f():\n" + "    x = 1\n" * 44 + "y = 2\n" * 255)
    assert list(too_long(module)) == []
    module.write_text("async def f():\n" + "    x = 1\n" * 45 + "y = 2\n" * 255)
    assert list(too_long(module)) == [
        f"{module}: 301 lines, the limit is 300",
        f"{module}:1: f has 46 lines, the limit is 45",
    ]


def test_every_tox_environment_says_what_it_does() -> None:
    """Each section of tox.ini that makes an environment has a description of its own."""
    sections = {name: section for name, section in declaration(ROOT / "tox.ini").items() if name.startswith("testenv")}
    assert {name for name, section in sections.items() if not section.get("description")} == set()


def test_the_distributions_share_one_version() -> None:
    """The hub and its adapters are released together."""
    versions = {path.name: declaration(path / "setup.cfg")["metadata"]["version"] for path in DISTRIBUTIONS}
    assert len(versions) == 3
    assert len(set(versions.values())) == 1, versions


@pytest.mark.parametrize("plugin", DISTRIBUTIONS[1:], ids=lambda path: path.name)
def test_a_plugin_is_declared_alike_everywhere(plugin: Path) -> None:
    """Distribution, folder, package and entry point of an adapter carry the same name."""
    declared, package = declaration(plugin / "setup.cfg"), plugin.name.replace("-", "_")
    assert declared["metadata"]["name"] == plugin.name
    assert declared["options.entry_points"]["agenthub"].strip() == f"{plugin.name.split('-')[-1]} = {package}"
    assert (plugin / package / "__init__.py").is_file()


def test_importing_agenthub_is_silent() -> None:
    """`import agenthub` warns of nothing and prints nothing, even with each warning made an error."""
    command = [sys.executable, "-W", "error", "-c", "import agenthub"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_page_of_fields_is_generated() -> None:
    """docs/wire.md says what the ledger says: each field of each API, for the lanes that cross."""
    assert PAGE.read_text(encoding="utf-8") == render(), "run python -m tests.wire_document"
    for table in (TO_NATIVE, TO_OPENAI):
        for row in table.rows:
            assert f"| `{row.field}` |" in PAGE.read_text(encoding="utf-8")


def test_the_reliability_page_names_what_there_is() -> None:
    """Each test that holds a promise exists."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"tests/[\w/]+(?:\.py)?", text))
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).exists() and not path.endswith("FILE.py")} == set()
    short = set(re.findall(r"[( ]`(test_\w+\.py)`", text))
    assert {name for name in short if not [*ROOT.glob(f"tests/*/{name}")]} == set()
