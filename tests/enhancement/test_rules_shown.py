"""GET /hub/enhancement: the rules in force."""

from __future__ import annotations

from typing import Any

from agenthub.enhancement.rules import SYSTEM_PROMPT
from agenthub.settings import ClientSettings
from tests.enhancement.support import a_rule, by_rules
from tests.hubs import RunningHub, running_hub
from tests.test_openapi import DESCRIBED

PATH = "/hub/enhancement"
SHOWN = {
    "enabled": True,
    "model": "m",
    "fallback_models": [],
    "system_prompt": "You rewrite.",
    "temperature": 0.0,
    "max_tokens": 1024,
    "think": "",
    "timeout_s": 10.0,
    "skip_shorter_than": 0,
    "skip_longer_than": 4000,
    "version": "1",
}


async def shown(hub: RunningHub, **headers: str) -> Any:
    answer = await hub.get(PATH, **headers)
    DESCRIBED.check("GET", PATH, answer, status=200)
    return answer.json()


async def test_without_rules() -> None:
    """There is no file, and the default is the built-in rule, which is shown as such."""
    async with running_hub("http://127.0.0.1:9") as hub:
        found = await shown(hub)
    assert (found["file"], found["clients"], found["auto_enhance"]) == (None, {}, [])
    built_in = SHOWN | {"model": "", "system_prompt": SYSTEM_PROMPT, "version": "built-in"}
    assert (found["built_in"], found["default"]) == (True, built_in)


async def test_all_rules_with_what_they_inherit() -> None:
    """And the clients all of whose prompts are put better."""
    clients = {"ed": ClientSettings(auto_enhance=True), "plain": ClientSettings()}
    rules = by_rules(ed=a_rule(version="2", think=True, fallback_models=("n",)))
    async with running_hub("http://127.0.0.1:9", enhancement=rules, clients=clients) as hub:
        assert await shown(hub) == {
            "file": None,
            "default": SHOWN,
            "clients": {"ed": SHOWN | {"version": "2", "think": True, "fallback_models": ["n"]}},
            "auto_enhance": ["ed"],
        }


async def test_clients_with_keys_see_their_own() -> None:
    """One that may manage models sees all; what others are told is nobody else's business."""
    clients = {
        "ed": ClientSettings(api_key="key-ed", auto_enhance=True),
        "other": ClientSettings(api_key="key-other"),
        "admin": ClientSettings(api_key="key-admin", operations=("all",)),
        "mute": ClientSettings(api_key="key-mute", operations=("list",)),
    }
    rules = by_rules(ed=a_rule(version="2"), secret=a_rule(version="3"))
    ed, secret = SHOWN | {"version": "2"}, SHOWN | {"version": "3"}
    async with running_hub("http://127.0.0.1:9", enhancement=rules, clients=clients) as hub:
        for client, expected in {
            "ed": {"clients": {"ed": ed}, "auto_enhance": ["ed"]},
            "other": {"default": SHOWN, "clients": {}, "auto_enhance": []},
            "admin": {"default": SHOWN, "clients": {"ed": ed, "secret": secret}, "auto_enhance": ["ed"]},
        }.items():
            assert await shown(hub, Authorization=f"Bearer key-{client}") == {"file": None} | expected, client
        for headers, status in ({}, 401), ({"Authorization": "Bearer key-mute"}, 403):
            DESCRIBED.check("GET", PATH, await hub.get(PATH, **headers), status=status)
