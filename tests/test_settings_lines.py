"""Where settings stand in files, and the list of those in force."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.settings import describe, load
from agenthub.settings.effective import Effective, effective
from agenthub.settings.lines import dotenv_lines, toml_lines

ROOT = Path(__file__).parents[1]


def test_the_lines_of_a_toml_file() -> None:
    """Tables, dotted and quoted keys, texts and lists over several lines, inline tables and arrays of tables."""
    text = """# a comment
port = 1
log.level = "info"

[models."gpt-4.1"]   # [not a table]
target = \"\"\"
[cors]
\"\"\"
backends = [
  "a",
  # ]
  "b",
]
options = { num_ctx = 1, stop = ["]"] }
[[many]]
x = 1
[[many]]
y = 2
[ cors ]
origins = []
"""
    assert toml_lines(text) == {
        ("port",): 2,
        ("log",): 3,
        ("log", "level"): 3,
        ("models", "gpt-4.1"): 5,
        ("models", "gpt-4.1", "target"): 6,
        ("models", "gpt-4.1", "backends"): 9,
        ("models", "gpt-4.1", "options"): 14,
        ("models", "gpt-4.1", "options", "num_ctx"): 14,
        ("models", "gpt-4.1", "options", "stop"): 14,
        ("many",): 15,
        ("many", "x"): 16,
        ("many", "y"): 18,
        ("cors",): 19,
        ("cors", "origins"): 20,
    }


@pytest.mark.parametrize("text", ["port == 1", "a = [", '[a\nb = "'])
def test_the_lines_of_what_is_no_toml(text: str) -> None:
    """Nothing is known of a file that does not parse."""
    assert toml_lines(text) == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.toml")), ids=lambda path: path.name)
def test_the_lines_of_the_shipped_files(path: Path) -> None:
    """Each key of the files that people copy is found on a line that begins with it."""
    text = path.read_text()
    lines, found = text.splitlines(), toml_lines(text)

    def check(tree: object, at: tuple[str, ...]) -> None:
        if isinstance(tree, dict):
            for name, inner in tree.items():
                here = (*at, name)
                if here in found:
                    assert name in lines[found[here] - 1]
                else:
                    assert isinstance(inner, dict), here  # the way to [backends.x] has no line of its own
                check(inner, here)

    check(tomllib.loads(text), ())


@given(
    values=st.lists(st.sampled_from(['"x"', "1", '"""\na\n"""', "[\n1,\n2\n]", "{ b = 1 }", "'''\n\n'''"]), max_size=6)
)
def test_every_statement_has_its_line(values: list[str]) -> None:
    """Whatever goes before it and however long that is, a key is found where it begins."""
    statements = [f"k{number} = {value}\n" for number, value in enumerate(values)]
    begun = [1 + "".join(statements[:number]).count("\n") for number in range(len(statements))]
    found = toml_lines("".join(statements))
    assert [found[(f"k{number}",)] for number in range(len(statements))] == begun


def test_the_lines_of_a_dotenv() -> None:
    """Blank lines and comments count, and of two lines with one name the last."""
    assert dotenv_lines("# a\n\nA=1\nexport B='x\ny'\n\n\nC=3\nA=2\nweird = = =\n") == {
        "A": 9,
        "B": 4,
        "C": 8,
        "weird": 10,
    }


def test_what_is_in_force(tmp_path: Path) -> None:
    """Every setting is there once; what hides another says so, and a secret is stars wherever it stands."""
    key = "sk-Zx81-do-not-show"
    (tmp_path / "key").write_text(key)
    (tmp_path / ".env").write_text(f"AGENTHUB_PORT=2\nAGENTHUB_BACKENDS__GPU__API_KEY={key}\n")
    (tmp_path / "a.toml").write_text(
        f'port = 1\nstrict = false\n[backends.gpu]\nurl = "http://gpu"\napi_key = "{key}2"\n'
        f'headers = {{ X-A = "{key}" }}\n'
        f'[clients.c]\napi_key_file = "{key}"\n[models."a.b"]\ntarget = "t"\noptions = {{ num_ctx = 1 }}\n'
    )
    variables = {"AGENTHUB_PORT": "3", "AGENTHUB_STRICT": "no", "AGENTHUB_CLIENTS__C__API_KEY_FILE": "key"}
    settings = load(Path("a.toml"), variables, directory=tmp_path)
    found = list(effective(settings))
    telling = {entry.key: entry for entry in found if entry.is_telling}
    assert list(telling) == [
        "port", "backends.gpu.url", "backends.gpu.api_key", "backends.gpu.headers.X-A", 'models."a.b".target',
        'models."a.b".options.num_ctx', "clients.c.api_key", "clients.c.api_key_file",
    ]  # fmt: skip
    assert telling["port"] == Effective(
        "port", 3, 9090, "environment: AGENTHUB_PORT", ((".env: AGENTHUB_PORT", 2), ("a.toml", 1))
    )
    stars = "********"
    assert telling["backends.gpu.api_key"] == Effective(
        "backends.gpu.api_key", stars, "", ".env: AGENTHUB_BACKENDS__GPU__API_KEY", (("a.toml", stars),)
    )
    file_source = "environment: AGENTHUB_CLIENTS__C__API_KEY_FILE"
    assert telling["clients.c.api_key"] == Effective("clients.c.api_key", stars, "", file_source)
    assert telling["clients.c.api_key_file"].hidden == (("a.toml", stars),)
    assert key not in repr(found)


def test_the_list_is_complete(tmp_path: Path) -> None:
    """With nothing configured it is what describe() lists, of the one backend that there is."""
    keys = [entry.key for entry in effective(load(None, {}, directory=tmp_path))]
    named = ("models.", "clients.")
    assert keys == [key.replace("NAME", "ollama") for key, _, _ in describe() if not key.startswith(named)]
