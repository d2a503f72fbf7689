"""What explain says of prompts that would be put better first."""

from __future__ import annotations

from typing import Any

import pytest

from agenthub.enhancement.rules import Rule, Rules
from agenthub.settings import ClientSettings, EnhancementSettings, HealthSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub
from tests.upstreams import HI

CHAT: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
RULES = Rules(
    Rule(model="writer", fallback_models=("standin",)),
    {"off": Rule(enabled=False, name="off"), "long": Rule(skip_shorter_than=100, name="long", version="7")},
)
SETTINGS: dict[str, Any] = {
    "enhancement": EnhancementSettings(rules=RULES),
    "clients": {"auto": ClientSettings(auto_enhance=True)},
    "health": HealthSettings(interval_s=0, models_refresh_s=0),
}


async def explained(hub: RunningHub, body: Any, path: str = "/api/chat", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await hub.post("/hub/explain", {"path": path, "body": body, "headers": named})
    assert answer.status == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("api_mode", ["native", "openai"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_the_question_about_a_prompt(path: str, api_mode: str) -> None:
    """It is told byte for byte; nothing is asked and nothing kept, and once it is kept, that is told."""
    standin = Standin(models=("standin", "writer"), text="A better prompt.")
    async with running(standin) as url, running_hub(url, api_mode=api_mode, **SETTINGS) as hub:
        await hub.hub.router.refresh()
        standin.requests.clear()
        for headers in ({"X_Enhance": "true"}, {"X_Client_Name": "auto"}):
            told = (await explained(hub, CHAT, path, **headers))["enhancement"]
            assert (told["is_wanted"], told["rule"], told["models"], told["why_not"], told["cache"]) == (
                True,
                "default@1",
                ["writer", "standin"],
                None,
                "miss",
            )
        assert not standin.requests
        answer = await hub.post(path, CHAT, X_Enhance="true")
        assert answer.headers["X-AgentHub-Enhanced"] == "default@1"
        question, asked = standin.requests
        (sending,) = told["upstream"]["requests"]
        assert (sending["method"], sending["url"], sending["body"].encode()) == (
            "POST",
            url + question.path,
            question.body,
        )
        assert asked.json()["messages"][-1]["content"] == "A better prompt."
        again = await explained(hub, CHAT, path, X_Enhance="true")
        assert (again["enhancement"]["cache"], again["enhancement"]["upstream"]["is_sent"]) == ("hit", False)


@pytest.mark.parametrize(
    ("body", "headers", "why_not"),
    [
        ({}, {}, "neither X-Enhance: true nor auto_enhance of the client asks for it"),
        ({}, {"X_Enhance": "false", "X_Client_Name": "auto"}, "neither X-Enhance: true nor auto_enhance"),
        ({}, {"X_Enhance": "true", "X_Client_Name": "off"}, "the rule off is off"),
        ({}, {"X_Enhance": "true", "X_Client_Name": "long"}, "the prompt is shorter than 100 characters"),
        ({"messages": []}, {"X_Enhance": "true"}, "there is no user message"),
    ],
)
async def test_why_a_prompt_stays(body: Any, headers: dict[str, str], why_not: str) -> None:
    """In the words of the rule, which the header of an answer has as well."""
    async with running(Standin(models=("standin", "writer"))) as url, running_hub(url, **SETTINGS) as hub:
        told = (await explained(hub, CHAT | body, **headers))["enhancement"]
        assert told["why_not"].startswith(why_not)
        assert told["upstream"] is None
        answer = await hub.post("/api/chat", CHAT | body, **headers)
        assert answer.headers.get("X-AgentHub-Enhanced", f"no: {told['why_not']}") == f"no: {told['why_not']}"


async def test_what_has_no_prompt() -> None:
    """An embedding has no such section."""
    async with running(Standin()) as url, running_hub(url, **SETTINGS) as hub:
        told = await explained(hub, {"model": "standin-embed", "input": "a"}, "/api/embed", X_Enhance="true")
        assert "enhancement" not in told


async def test_a_request_to_enhance() -> None:
    """The question of /hub/enhance is told as it is asked, and so is what its client would be refused with."""
    standin = Standin(models=("standin", "writer"), text="A better prompt.")
    async with running(standin) as url, running_hub(url, **SETTINGS) as hub:
        await hub.hub.router.refresh()
        standin.requests.clear()
        body = {"prompt": "hi", "client": "auto"}
        told = await explained(hub, body, "/hub/enhance")
        assert (told["client"]["name"], told["enhancement"]["why_not"], list(standin.requests)) == ("auto", None, [])
        (sending,) = told["enhancement"]["upstream"]["requests"]
        assert (await hub.post("/hub/enhance", body)).json()["was_enhanced"]
        assert [one.body for one in standin.requests] == [sending["body"].encode()]
        told = await explained(hub, {"prompt": "hi", "client": "off"}, "/hub/enhance")
        assert (told["enhancement"]["why_not"], told["answer"]["status"]) == ("the rule off is off", 200)
        told = await explained(hub, {"client": "off"}, "/hub/enhance")
        assert told["answer"]["body"] == (await hub.post("/hub/enhance", {"client": "off"})).json()
        assert told["answer"]["status"] == 400
