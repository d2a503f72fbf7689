"""The built-in rule: who asks for a better prompt gets one without any file; and the model that it asks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from agenthub.enhancement.kinds import fill
from agenthub.enhancement.loading import load_rules
from agenthub.enhancement.rules import SYSTEM_PROMPT
from agenthub.settings import ClientSettings, EnhancementSettings, load
from tests.enhancement.support import BETTER, by_rules
from tests.hubs import running_hub
from tests.upstreams import Reply, answering, serving

ROOT = Path(__file__).parents[2]
PATH = "/hub/enhance"
PROMPT = "make it better"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": False}


@attrs.define
class Models:
    """Has the models ``m``, ``set`` and ``ruled``; ``asked`` are those that were to rewrite, ``told`` how."""

    asked: list[str] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    prompts: list[str] = attrs.field(factory=list)

    def __call__(self, path: str, body: Any) -> Reply:
        first = body["messages"][0]
        if first["role"] != "system":
            self.prompts.append(first["content"])
            return answering("the answer")(path, body)
        self.asked.append(body["model"])
        self.told.append(first["content"])
        return answering(BETTER)(path, body)


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_with_the_requests_model(adapter: str) -> None:
    """A call of /hub/enhance asks for it: with a model named, nothing needs to be set."""
    models = Models()
    async with serving(models) as upstream, running_hub(upstream.url, api_mode=adapter) as hub:
        found = (await hub.post(PATH, {"prompt": PROMPT, "model": "m"})).json()
        assert (found["was_enhanced"], found["enhanced"], found["model"]) == (True, BETTER, "m")
        assert (found["rule"], found["rule_version"]) == ("default", "built-in")
        streamed = await hub.post(PATH, {"prompt": PROMPT, "model": "m", "stream": True, "bypass_cache": True})
        assert streamed.frames()[-1]["enhanced"] == BETTER
    assert (models.asked, models.told) == (["m", "m"], [SYSTEM_PROMPT] * 2)


@pytest.mark.parametrize("headers", [{"X_Enhance": "true"}, {"X_Client_Name": "auto"}], ids=["header", "setting"])
async def test_in_line(headers: dict[str, str]) -> None:
    """A request that asks for it is rewritten by the model that it asks, by the header and by the client's setting."""
    models, clients = Models(), {"auto": ClientSettings(auto_enhance=True)}
    async with serving(models) as upstream, running_hub(upstream.url, clients=clients) as hub:
        answer = await hub.post("/api/chat", CHAT, **headers)
        assert answer.headers["X-AgentHub-Enhanced"] == "default@built-in"
        plain = await hub.post("/api/chat", CHAT)
        assert "X-AgentHub-Enhanced" not in plain.headers
    assert (models.asked, models.prompts) == (["m"], [BETTER, PROMPT])


@pytest.mark.parametrize(
    ("ruled", "settled", "named", "asked"),
    [
        ("", "", "m", "m"),
        ("", "set", "m", "m"),
        ("ruled", "set", "m", "m"),
        ("ruled", "set", "", "ruled"),
        ("", "set", "", "set"),
        ("ruled", "", "", "ruled"),
    ],
)
async def test_which_model(ruled: str, settled: str, named: str, asked: str) -> None:
    """The request's, else the rule's, else that of the settings; of any rule, and as explain says it."""
    rules = by_rules().rules
    rules = attrs.evolve(rules, default=attrs.evolve(rules.default, model=ruled))
    models, enhancement = Models(), EnhancementSettings(model=settled, rules=rules)
    async with serving(models) as upstream, running_hub(upstream.url, enhancement=enhancement) as hub:
        body = {"prompt": PROMPT} | ({"model": named} if named else {})
        explained = (await hub.post("/hub/explain", {"path": PATH, "body": body})).json()
        assert explained["enhancement"]["models"] == [asked]
        assert (await hub.post(PATH, body)).json()["model"] == asked
    assert models.asked == [asked]


async def test_in_line_the_requests_own_model_goes_first() -> None:
    """The setting is for calls in which no model is named at all."""
    models = Models()
    async with (
        serving(models) as upstream,
        running_hub(upstream.url, enhancement=EnhancementSettings(model="set")) as hub,
    ):
        await hub.post("/api/chat", CHAT, X_Enhance="true")
        assert (await hub.post(PATH, {"prompt": PROMPT})).json()["model"] == "set"
    assert models.asked == ["m", "set"]


async def test_without_any_model() -> None:
    """The prompt stays, and the error says what to do; explain says the same."""
    why = "the rule default names no model: name one in the request (model), or set enhancement.model"
    async with running_hub("http://127.0.0.1:9") as hub:
        found = (await hub.post(PATH, {"prompt": PROMPT})).json()
        assert (found["was_enhanced"], found["enhanced"], found["error"]) == (False, PROMPT, why)
        explained = await hub.post("/hub/explain", {"path": PATH, "body": {"prompt": PROMPT}})
        assert explained.json()["enhancement"]["why_not"] == why


async def test_a_default_that_is_off_stays_off(tmp_path: Path) -> None:
    """A file decides: its default may be off, and without one only the clients in it have rules."""
    for text in ("[default]\nenabled = false\n", '[clients.ed]\nmodel = "m"\n'):
        (tmp_path / "rules.toml").write_text(text)
        enhancement = EnhancementSettings(rules=load_rules("rules.toml", tmp_path))
        async with running_hub("http://127.0.0.1:9", enhancement=enhancement) as hub:
            found = (await hub.post(PATH, {"prompt": PROMPT, "model": "m"})).json()
            assert found["error"] == "the rule default is off"
            assert "built_in" not in (await hub.get("/hub/enhancement")).json()


def test_the_setting(tmp_path: Path) -> None:
    """It is read as any other."""
    assert load(None, {"AGENTHUB_ENHANCEMENT__MODEL": "small"}, directory=tmp_path).enhancement.model == "small"


def test_no_shipped_prompt_says_a_word_twice() -> None:
    """As clients are called in the shipped file, no instruction reads "in the editor editor"."""
    rules = load_rules("config/enhancement.toml", ROOT)
    for name, rule in {"default": rules.default, **rules.clients}.items():
        told = fill(rule.system_prompt, name)
        assert re.findall(r"\b(\w+)\W+\1\b", told, re.IGNORECASE) == [], name
