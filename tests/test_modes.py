"""Which api mode a request goes by: the precedence of who may say so, and the reason that is given."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from agenthub.errors import ConfigError, PluginError
from agenthub.middleware import Backend, Caller
from agenthub.modes import HEADER, LEVELS, Wish, explain_mode, wished_mode
from agenthub.plugins import Plugins, make_plugins
from agenthub.routing import Router
from agenthub.settings import BackendSettings, PluginsSettings, Settings, load
from agenthub.standin import Standin, running
from tests.hubs import running_hub

CHAT: dict[str, Any] = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}], "stream": False}
RULES = {
    "request": HEADER,
    "client": "clients.vscode.api_mode",
    "model": 'models."gpt-4.1".api_mode',
    "backend": "backends.one.api_mode",
    "hub": "api_mode (environment: OLLAMA_API_MODE)",
    "default": "default",
}


def configured(directory: Path, url: str, says: Mapping[str, str]) -> Settings:
    """Return the settings in which each level of ``says`` asks for its mode."""
    tables = {
        "backend": f'[backends.one]\nurl = "{url}"\n',
        "model": '[models."gpt-4.1"]\ntarget = "standin"\n',
        "client": "[clients.vscode]\n",
    }
    lines = [text + (f'api_mode = "{says[level]}"\n' if level in says else "") for level, text in tables.items()]
    (directory / "hub.toml").write_text("".join(lines))
    environ = {"OLLAMA_API_MODE": says["hub"]} if "hub" in says else {}
    return load(directory / "hub.toml", environ, directory=directory)


@pytest.mark.parametrize("mode", ["native", "openai"])
@pytest.mark.parametrize("said", range(2 ** (len(LEVELS) - 1)))
def test_the_nearest_word_wins(tmp_path: Path, said: int, mode: str) -> None:
    """Of each set of levels that say something: request, client, model, backend, environment, and at last the default.

    The nearest says ``mode`` and all others the other one, so that none of them can pass for it.
    """
    levels = [level for place, level in enumerate(LEVELS[:-1]) if said & 1 << place]
    other = "openai" if mode == "native" else "native"
    says = {level: mode if place == 0 else other for place, level in enumerate(levels)}
    settings = configured(tmp_path, "http://127.0.0.1:1", says)
    router = Router(settings, {"one": Backend("one", settings.backends["one"])})
    caller = Caller(client="vscode", api_mode=says.get("request", ""))
    asked = (settings, router.backends["one"], caller, router.route("GPT-4.1"))
    nearest, wish = (levels[0], mode) if levels else ("default", "native")
    assert explain_mode(*asked) == Wish(wish, nearest, RULES[nearest])
    assert wished_mode(*asked) == wish


LADDER = [({level: "openai"} | dict.fromkeys(LEVELS[place + 1 : -1], "native")) for place, level in enumerate(LEVELS)]


@pytest.mark.parametrize("says", LADDER, ids=LEVELS)
async def test_a_request_goes_by_it(tmp_path: Path, says: Mapping[str, str]) -> None:
    """At each level in turn: what the answer tells, and the path that the upstream was asked, are the nearest's."""
    standin = Standin()
    async with running(standin) as url:
        settings = configured(tmp_path, url, says)
        plain = {name: getattr(settings, name) for name in ("models", "clients", "api_mode")}
        async with running_hub(settings.backends, **plain) as hub:
            header = {HEADER.replace("-", "_"): says["request"]} if "request" in says else {}
            answer = await hub.post("/api/chat", CHAT, X_Client_Name="vscode", **header)
            wish = "native" if "default" in says else "openai"
            assert (answer.status, answer.headers[HEADER]) == (200, wish)
            asked = [received.path for received in standin.requests if "chat" in received.path]
            assert asked == ["/api/chat" if wish == "native" else "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ({"environ": {"OLLAMA_API_MODE": "native"}}, "api_mode (environment: OLLAMA_API_MODE)"),
        ({"environ": {"AGENTHUB_API_MODE": "native"}}, "api_mode (environment: AGENTHUB_API_MODE)"),
        ({"environ": {}, "overrides": {"api_mode": "native"}}, "api_mode (command line)"),
        ({"environ": {}}, "default"),
    ],
)
def test_the_reason_names_the_source(tmp_path: Path, source: Mapping[str, Any], rule: str) -> None:
    """Of the hub's own mode it says where it was set, even to what is the default."""
    settings = load(None, directory=tmp_path, **source)
    assert explain_mode(settings, Backend("b", BackendSettings(url="http://a"))).rule == rule


def test_auto_may_stand_at_each_level(tmp_path: Path) -> None:
    """No start is refused for it; a mode that nobody has is, with what there is."""
    from agenthub.app import check_modes

    plugins = make_plugins(PluginsSettings())
    for level, mode in product(("client", "model", "backend", "hub"), ("auto", "other")):
        settings = configured(tmp_path, "http://127.0.0.1:1", {level: mode})
        if mode == "auto":
            check_modes(settings, plugins)
            continue
        with pytest.raises(
            ConfigError, match="'other' is no installed adapter: use one of native, openai, auto"
        ) as raised:
            check_modes(settings, plugins)
        source = "environment: OLLAMA_API_MODE: api_mode" if level == "hub" else f"hub.toml: {RULES[level]}"
        assert source in str(raised.value)


async def test_an_unknown_mode_in_the_header(tmp_path: Path) -> None:
    """A 400 in the asking dialect that says which modes there are."""
    standin = Standin()
    async with running(standin) as url, running_hub(url) as hub:
        answer = await hub.post("/v1/chat/completions", CHAT | {"model": "standin"}, X_AgentHub_Api_Mode="other")
        assert answer.status == 400
        error = answer.json()["error"]
        assert (error["message"], error["param"]) == ("api mode 'other' is not one of native, openai, auto", "api_mode")


def test_no_adapter_may_be_called_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests could not be told from those for which an adapter is to be chosen."""
    from importlib.metadata import EntryPoint

    import agenthub
    import agenthub_adapter_native

    class Plugin:
        @staticmethod
        @agenthub.hookimpl
        def agenthub_register_adapters() -> list[agenthub.AdapterType]:
            (own,) = agenthub_adapter_native.agenthub_register_adapters()
            return [agenthub.AdapterType(kind="auto", title="any", make=own.make)]

    monkeypatch.setattr(EntryPoint, "load", lambda self: Plugin)
    entry = EntryPoint(name="auto", value="somewhere", group="agenthub")

    def load_plugins() -> Plugins:
        return make_plugins(PluginsSettings(), found=[entry])

    with pytest.raises(PluginError, match="plugin auto: no adapter may have this name"):
        load_plugins()
