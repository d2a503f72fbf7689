"""The file of the rules: what it means, how it is found, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthub.enhancement.loading import load_rules
from agenthub.enhancement.rules import SYSTEM_PROMPT, Rule, Rules
from agenthub.errors import ConfigError
from agenthub.settings import Settings, load

ROOT = Path(__file__).parents[2]


def put(directory: Path, text: str, name: str = "config/enhancement.toml") -> None:
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text(text, encoding="utf-8")


def test_without_a_file_there_is_the_built_in_rule(tmp_path: Path) -> None:
    """For every client, so that what asks for a better prompt gets one; it names no model of its own."""
    rules = load_rules("", tmp_path)
    assert rules == Rules()
    assert (rules.of("anyone").enabled, rules.of("anyone").name, rules.file) == (True, "default", "")
    assert (rules.default.model, rules.default.label) == ("", "default@built-in")


def test_clients_inherit_from_the_default(tmp_path: Path) -> None:
    """What a client's rule does not say is as in ``default``, whichever comes first; all of it, if it is empty."""
    put(
        tmp_path,
        "[clients.editor]\nversion = 3\nthink = true\n[clients.plain]\n"
        '[default]\nmodel = "a"\nfallback_models = ["b"]\ntimeout_s = 2\nthink = "low"\n',
    )
    rules = load_rules("", tmp_path)
    default = Rule(model="a", fallback_models=("b",), timeout_s=2.0, think="low")
    editor = Rule(model="a", fallback_models=("b",), timeout_s=2.0, think=True, version="3", name="editor")
    plain = Rule(model="a", fallback_models=("b",), timeout_s=2.0, think="low", name="plain")
    assert rules == Rules(default, {"editor": editor, "plain": plain})
    assert rules.of("editor") is rules.clients["editor"]
    assert (rules.of("stranger"), rules.file) == (default, "config/enhancement.toml")


def test_only_clients(tmp_path: Path) -> None:
    """Without a ``default`` the others are left alone."""
    put(tmp_path, '[clients.chat]\nmodel = "a"\n')
    rules = load_rules("", tmp_path)
    assert (rules.default.enabled, rules.of("chat")) == (False, Rule(model="a", name="chat"))


def test_the_settings_hold_the_rules(tmp_path: Path) -> None:
    """Found as agenthub.toml is, or by its name in [enhancement]; a reload sees what is changed in it."""
    put(tmp_path, '[default]\nmodel = "a"\n')
    put(tmp_path, '[default]\nmodel = "b"\n', "mine.toml")
    assert load(None, {}, directory=tmp_path).enhancement.rules == Rules(Rule(model="a"))
    named = load(None, {"AGENTHUB_ENHANCEMENT__FILE": "mine.toml"}, directory=tmp_path)
    assert (named.enhancement.file, named.enhancement.rules) == ("mine.toml", Rules(Rule(model="b")))
    assert Settings().enhancement.rules == Rules()


WRONG = {
    "[defualt]": "defualt: unknown key: did you mean default?",
    "[default]\nmodle = 'a'": "default.modle: unknown key: did you mean default.model?",
    "default = 1": "default: 1 is not allowed: use a table with the keys enabled, model, fallback_models,",
    "[default]\ntemperature = 3": "default.temperature: 3 is not allowed: use a number from 0 to 2",
    "[default]\ntemperature = nan": "default.temperature: nan is not allowed: use a number from 0 to 2",
    "[default]\ntemperature = true": "default.temperature: true is not allowed: use a number from 0 to 2",
    "[default]\nmax_tokens = 0": "default.max_tokens: 0 is not allowed: use a whole number, 1 or more",
    "[default]\nthink = 'much'": 'default.think: "much" is not allowed: use true, false, "low", "medium", "high" or "" '
    "(as the model does)",
    "[clients.ed]\ntimeout_s = -1": "clients.ed.timeout_s: -1 is not allowed: use a number of seconds, 0 or more",
    "[clients.ed]\nversion = 'a b'": 'clients.ed.version: "a b" is not allowed: use a word of up to 32 letters,'
    ' digits, ".", "_" and "-"',
    "[clients.ed]\nversion = 1.5": "clients.ed.version: 1.5 is not allowed: use a word of up to 32 letters, digits, "
    '".", "_" and "-"',
    "[clients.ed]\nname = 'x'": "clients.ed.name: unknown key",
    "[default]\nsystem_prompt = ' '": 'default.system_prompt: " " is not allowed: use a text that is not empty',
    "[default]\nsystem_prompt = 'Hi {user}'": "default.system_prompt: it has other braces than {client}: use {client} "
    "for the client's name, {{ and }} for braces",
    "[default]\nsystem_prompt = '{client!r}'": "default.system_prompt: it has other braces than {client}",
    "[default]\nsystem_prompt = '{client.x}'": "default.system_prompt: it has other braces than {client}",
    "[default]\nsystem_prompt = '{}'": "default.system_prompt: it has other braces than {client}",
    "[default]\nsystem_prompt = 'a } b'": "default.system_prompt: a brace stands alone: use {client} for the client's "
    "name, {{ and }} for braces",
    "[default": "not valid TOML: ",
}


@pytest.mark.parametrize(("text", "problem"), WRONG.items())
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    """It says the file, the key path, what is wrong and what is allowed."""
    put(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(None, {}, directory=tmp_path)
    assert str(caught.value).startswith(f"config/enhancement.toml: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gone.toml", "gone.toml: cannot be read: No such file or directory"),
        ("config", "config: cannot be read: Is a directory"),
        ("a\0b", "environment: AGENTHUB_ENHANCEMENT__FILE: enhancement.file: this can be no file's name"),
    ],
)
def test_a_file_that_was_named_must_be_there(tmp_path: Path, name: str, problem: str) -> None:
    """One that was only hoped for need not."""
    (tmp_path / "config").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(None, {"AGENTHUB_ENHANCEMENT__FILE": name}, directory=tmp_path)
    assert str(caught.value) == problem


def test_the_shipped_rules_load() -> None:
    """config/enhancement.toml: a default and rules for four kinds of apps, all on, in the code's own words."""
    rules = load_rules("", ROOT)
    assert sorted(rules.clients) == ["chat", "editor", "launcher", "notes"]
    assert " ".join(rules.default.system_prompt.split()) == " ".join(SYSTEM_PROMPT.split())
    for name, rule in {"default": rules.default, **rules.clients}.items():
        assert (rule.enabled, rule.name, bool(rule.model), rule.timeout_s > 0) == (True, name, True, True)
    for name, rule in rules.clients.items():
        assert name in rule.instructions(name)


def test_the_shipped_file_explains_every_setting() -> None:
    """Each under a comment, in the order of the fields, with the code's default where the file has no better one."""
    text = (ROOT / "config/enhancement.toml").read_text(encoding="utf-8")
    places = [text.index(f"\n{name} = ") for name in Rule.__annotations__ if name != "name"]
    assert places == sorted(places)
