"""agenthub_enhance_prompt: a plugin's own enhancer in the place of the rule's models."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from agenthub import InvalidRequest, Rule, hookimpl
from agenthub.plugins import make_plugins
from agenthub.settings import PluginsSettings
from tests.enhancement.support import BETTER, Rewriter, a_rule, by_rules
from tests.hubs import running_hub
from tests.upstreams import serving

PATH = "/hub/enhance"


def make_enhancing(monkeypatch: pytest.MonkeyPatch, *hooks: Any) -> Any:
    """Return plugins: the adapters, and one for each hook."""
    found = [EntryPoint(kind, f"agenthub_adapter_{kind}", "agenthub") for kind in ("native", "openai")]
    for number, hook in enumerate(hooks):
        module = ModuleType(f"module_of_enhancer_{number}")
        hook.__name__ = "agenthub_enhance_prompt"
        module.agenthub_enhance_prompt = hookimpl(hook)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        found.append(EntryPoint(name=f"enhancer{number}", value=module.__name__, group="agenthub"))
    return make_plugins(PluginsSettings(), found=found)


async def test_a_plugin_puts_prompts_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once or awaited; with None it is the turn of the rule's models. A rule that is off asks no plugin either."""
    seen: list[Any] = []

    async def later(prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt + "!"

    def enhance(prompt: str, rule: Rule, client: str) -> Any:
        seen.append((prompt, rule.name, client))
        return prompt.upper() if prompt == "now" else later(prompt) if prompt == "later" else None

    rewriter = Rewriter()
    rules = by_rules(ed=a_rule(), off=a_rule(enabled=False))
    plugins = make_enhancing(monkeypatch, enhance)
    async with serving(rewriter) as upstream, running_hub(upstream.url, plugins=plugins, enhancement=rules) as hub:
        found = {
            prompt: (await hub.post(PATH, {"prompt": prompt, "client": "ed"})).json()
            for prompt in ("now", "later", "none")
        }
        off = (await hub.post(PATH, {"prompt": "now", "client": "off"})).json()
        chat = {"model": "m", "messages": [{"role": "user", "content": "now"}], "stream": False}
        in_line = await hub.post("/api/chat", chat, X_Enhance="true")
    told = {prompt: (one["enhanced"], one["model"], one["was_enhanced"]) for prompt, one in found.items()}
    assert told == {"now": ("NOW", None, True), "later": ("later!", None, True), "none": (BETTER, "m", True)}
    assert off["was_enhanced"] is False
    assert in_line.headers["X-AgentHub-Enhanced"] == "default@1"
    assert rewriter.answered[-1]["messages"][-1]["content"] == "NOW"
    assert seen == [("now", "ed", "ed"), ("later", "ed", "ed"), ("none", "ed", "ed"), ("now", "default", "")]


async def test_the_first_that_has_something_to_say_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with every hook whose first result is taken, the last registered is asked first."""
    plugins = make_enhancing(monkeypatch, lambda prompt: "of the first", lambda prompt: None)
    async with running_hub("http://127.0.0.1:9", plugins=plugins, enhancement=by_rules()) as hub:
        assert (await hub.post(PATH, {"prompt": "a"})).json()["enhanced"] == "of the first"


async def never(prompt: str) -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def raising(prompt: str) -> str:
    raise ValueError("secret words")


async def late(prompt: str) -> str:
    raise TimeoutError


def refusing(prompt: str) -> str:
    raise InvalidRequest("not in this house")


FAILING = {
    "raises": (lambda prompt: 1 / 0, "a plugin that enhances prompts failed", True),
    "raises-later": (raising, "a plugin that enhances prompts failed", True),
    "raises-time-out": (late, "a plugin that enhances prompts failed", True),
    "times-out": (never, "no answer within 0.05 s", False),
    "no-text": (lambda prompt: 5, "a plugin that enhances prompts gave no text", True),
    "empty": (lambda prompt: " ", "a plugin that enhances prompts gave no text", True),
    "refuses": (refusing, "not in this house", False),
    "same": (lambda prompt: prompt, "there is nothing to put better", False),
}


@pytest.mark.parametrize(("hook", "reason", "is_logged"), FAILING.values(), ids=FAILING.keys())
async def test_a_plugin_that_fails_leaves_the_prompt_alone(
    monkeypatch: pytest.MonkeyPatch, hook: Any, reason: str, is_logged: bool
) -> None:
    """Whatever it does; what it raised is in the log, and nobody else is told."""
    plugins = make_enhancing(monkeypatch, hook)
    rules = by_rules(a_rule(timeout_s=0.05))
    async with running_hub("http://127.0.0.1:9", plugins=plugins, enhancement=rules) as hub:
        answer = await hub.post(PATH, {"prompt": "a prompt"})
        failures = [line for line in hub.lines if line["event"] == "agenthub.hook_failed"]
    found = answer.json()
    assert (answer.status, found["enhanced"], found["error"]) == (200, "a prompt", reason)
    assert bool(failures) is is_logged
