"""SIGHUP, sent to ``agenthub serve`` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agenthub.cli.reloading import load_anew
from agenthub.settings import BackendSettings, LogSettings, ProtectionSettings, Settings
from agenthub.standin import Fault, Standin, running
from tests.cli.support import LIMIT_S, Started, clean_environ, started

CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "Hello"}]}
KEPT = CHAT | {"options": {"temperature": 0}, "stream": False}
PATIENCE = aiohttp.ClientTimeout(total=LIMIT_S)


def put(config: Path, text: str) -> None:
    """Write the file."""
    config.write_text(text)


@asynccontextmanager
async def serving(config: Path, text: str) -> AsyncIterator[tuple[Started, str, aiohttp.ClientSession]]:
    """Serve as ``text`` in the file says; yield the process, its URL and a client."""
    put(config, text)
    async with (
        started("serve", "--port", "0", "--config", str(config), environ=clean_environ()) as hub,
        aiohttp.ClientSession(timeout=PATIENCE) as session,
    ):
        yield hub, (await hub.log_line("agenthub.listening"))["url"], session


async def reload(hub: Started, event: str = "agenthub.reloaded") -> Mapping[str, Any]:
    """Send the signal; return the line that says what came of it, without its time and level."""
    hub.signal(signal.SIGHUP)
    line = await hub.log_line(event)
    return {name: value for name, value in line.items() if name not in ("timestamp", "level", "event")}


async def ask(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> tuple[int, str, str, Any]:
    """Return status, backend, cache and the answer."""
    async with session.post(f"{url}/api/chat", json=body) as response:
        headers = response.headers
        backend, cache = headers.get("X-AgentHub-Backend", ""), headers.get("X-AgentHub-Cache", "")
        return response.status, backend, cache, await response.json()


async def test_a_stream_keeps_its_settings(tmp_path: Path) -> None:
    """What comes after a reload goes by the new file; a stream that runs goes on with its backend to its end."""
    config = tmp_path / "hub.toml"
    one, two = Standin(pace_s=0.02), Standin()
    async with (
        running(one) as first,
        running(two) as second,
        serving(config, f'[backends.one]\nurl = "{first}"\n') as (hub, url, session),
    ):
        async with session.post(f"{url}/api/chat", json=CHAT) as stream:
            opening = await stream.content.readline()
            put(config, f'drain_s = 1\nmax_body_bytes = 1\n[backends.two]\nurl = "{second}"\napi_key = "s3cret"\n')
            said = await reload(hub)
            asked = await ask(session, url, CHAT | {"stream": False})
            lines = [opening, *[line async for line in stream.content]]
        hub.signal(signal.SIGTERM)
        status, _, err = await hub.end()
    assert said == {"changed": ["drain_s", "backends.one", "backends.two"], "needs_restart": ["max_body_bytes"]}
    assert asked[:2] == (200, "two")
    assert stream.headers["X-AgentHub-Backend"] == "one"
    assert json.loads(lines[-1])["done"] is True
    assert (status, "s3cret" in err, one.abandoned.count) == (0, False, 0)


async def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """A file that cannot be used is one line in the log that says why, and the hub goes on as it was; after it is
    mended the next signal counts.
    """
    config = tmp_path / "hub.toml"
    async with running(Standin()) as upstream:
        good = f'[backends.one]\nurl = "{upstream}"\n'
        async with serving(config, good) as (hub, url, session):
            for text, why in {
                "drain_s = 'soon'\n" + good: 'drain_s: "soon" is not allowed: use a number of seconds, 0 or more',
                "middleware = ['nothing']\n" + good: "middleware: 'nothing' is not brought by any plugin",
                "api_mode = 'other'\n" + good: "api_mode: 'other' is no installed adapter",
                "[clients.e]\napi_key = ''\n" + good: "clients.e.api_key: the key is empty",
                "[clients.e]\napi_key = 'sha256:12'\n" + good: "clients.e.api_key: the digest (not shown) is not one",
                "[clients.e]\napi_key_file = 'hub.toml'\n"
                + good: "clients.e.api_key_file: the file holds more than a key",
                "not toml": "hub.toml",
            }.items():
                put(config, text)
                said = await reload(hub, "agenthub.reload_failed")
                assert list(said) == ["error"]
                assert why in said["error"]
                assert "\n" not in said["error"]
                assert (await ask(session, url, CHAT | {"stream": False}))[:2] == (200, "one")
            put(config, "strict = true\n" + good)
            assert await reload(hub) == {"changed": ["strict"]}
            hub.signal(signal.SIGTERM)
            status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)


async def test_rules_for_prompts_are_reloaded(tmp_path: Path) -> None:
    """With the rest, or not at all: a bad file of rules changes nothing, neither there nor in the settings."""
    config, rules = tmp_path / "hub.toml", tmp_path / "rules.toml"
    put(rules, '[default]\nmodel = "standin"\nversion = 1\n[clients.ed]\nenabled = false\n')
    async with running(Standin(text="A better prompt.")) as upstream:
        head = f'[enhancement]\nfile = "{rules}"\n[backends.one]\nurl = "{upstream}"\n'
        async with serving(config, head) as (hub, url, session):

            async def enhance(client: str) -> tuple[bool, str]:
                async with session.post(f"{url}/hub/enhance", json={"prompt": "a", "client": client}) as response:
                    found = await response.json()
                return found["was_enhanced"], f"{found['rule']}@{found['rule_version']}"

            assert [await enhance("ed"), await enhance("me")] == [(False, "ed@1"), (True, "default@1")]
            put(config, "strict = true\n" + head)
            put(rules, "[default]\ntemperature = 9\n")
            said = await reload(hub, "agenthub.reload_failed")
            assert said["error"] == f"{rules}: default.temperature: 9 is not allowed: use a number from 0 to 2"
            assert [await enhance("ed"), await enhance("me")] == [(False, "ed@1"), (True, "default@1")]
            put(rules, '[default]\nmodel = "standin"\nversion = 2\n')
            changes = ["strict", "enhancement.rules.default.version", "enhancement.rules.clients.ed"]
            assert await reload(hub) == {"changed": changes}
            assert [await enhance("ed"), await enhance("me")] == [(True, "default@2"), (True, "default@2")]
            hub.signal(signal.SIGTERM)
            assert (await hub.end())[0] == 0


async def test_what_outlives_a_reload(tmp_path: Path) -> None:
    """Kept answers stay unless [caching] is changed; an open breaker stays open unless its backend's URL is changed."""
    config = tmp_path / "hub.toml"
    standin = Standin()
    async with running(standin) as upstream, running(Standin()) as other:
        backend = f'[backends.one]\nurl = "{upstream}"\n'
        async with serving(config, backend) as (hub, url, session):
            assert (await ask(session, url, KEPT))[2] == "miss"
            for _ in range(2):
                put(config, "strict = true\n" + backend)
                await reload(hub)
                assert (await ask(session, url, KEPT))[2] == "hit"
            put(config, "[caching]\nttl_s = 5\n" + backend)
            assert await reload(hub) == {"changed": ["strict", "caching.ttl_s"]}
            assert (await ask(session, url, KEPT))[2] == "miss"

            standin.script(*[Fault.answer(500) for _ in range(3)])
            failed = [(await ask(session, url, CHAT | {"stream": False}))[0] for _ in range(4)]
            put(config, "[circuit_breaker]\nopen_for_s = 1000\n" + backend)
            await reload(hub)
            still_open = await ask(session, url, CHAT | {"stream": False})
            put(config, f'[backends.one]\nurl = "{other}"\n')
            await reload(hub)
            fresh = await ask(session, url, CHAT | {"stream": False})
    assert failed == [500, 500, 500, 503]
    assert (still_open[0], fresh[0]) == (503, 200)


async def test_a_client_gets_no_second_minute(tmp_path: Path) -> None:
    """What a client has used of its limits is used after a reload too."""
    config = tmp_path / "hub.toml"
    async with running(Standin()) as upstream:
        text = f'middleware = ["limits"]\n[backends.one]\nurl = "{upstream}"\n[clients.some]\nrequests_per_minute = 1\n'
        async with (
            serving(config, text) as (hub, url, _),
            aiohttp.ClientSession(timeout=PATIENCE, headers={"X-Client-Name": "some"}) as session,
        ):
            statuses = [(await ask(session, url, CHAT | {"stream": False}))[0]]
            put(config, "strict = true\n" + text)
            await reload(hub)
            statuses.append((await ask(session, url, CHAT | {"stream": False}))[0])
    assert statuses == [200, 429]


async def test_reloads_under_load(tmp_path: Path) -> None:
    """While clients ask without a pause, ten reloads lose no request; then no more sockets are open than before, and a
    signal during the drain changes nothing.
    """
    config = tmp_path / "hub.toml"
    standin = Standin(pace_s=0.001)
    async with running(standin) as upstream:
        texts = [f'strict = {word}\n[backends.one]\nurl = "{upstream}"\n' for word in ("true", "false")]
        async with serving(config, texts[1]) as (hub, url, session):
            stopped = asyncio.Event()

            async def ask_on() -> int:
                count = 0
                while not stopped.is_set():
                    count += 1
                    assert (await ask(session, url, CHAT | {"stream": False}))[:2] == (200, "one")
                    async with session.post(f"{url}/v1/chat/completions", json=CHAT | {"stream": True}) as response:
                        assert (await response.read()).endswith(b"data: [DONE]\n\n")
                return count

            def open_files() -> int:
                return len(list(Path(f"/proc/{hub.process.pid}/fd").iterdir()))

            clients = [asyncio.create_task(ask_on()) for _ in range(8)]
            for turn in range(10):
                put(config, texts[turn % 2])
                assert await reload(hub) == {"changed": ["strict"]}
                if turn == 1:
                    before = open_files()
            hub.signal(signal.SIGHUP)
            hub.signal(signal.SIGHUP)
            await hub.log_line("agenthub.reloaded")
            stopped.set()
            counts = await asyncio.gather(*clients)
            async with asyncio.timeout(LIMIT_S):
                while True:
                    if open_files() <= before:
                        break
                    await asyncio.sleep(0.01)
            async with session.post(f"{url}/api/chat", json=CHAT) as response:
                hub.signal(signal.SIGTERM)
                await hub.log_line("agenthub.stopping")
                hub.signal(signal.SIGHUP)
                assert json.loads((await response.read()).splitlines()[-1])["done"] is True
            status, _, err = await hub.end()
    assert all(counts)
    assert (status, "agenthub.reload" in err, "Traceback" in err) == (0, False, False)


def test_what_needs_a_restart() -> None:
    """What is read at the start only keeps its value, and is named; all else is taken over. Values are not told."""
    old = Settings(backends={"one": BackendSettings("http://127.0.0.1:9", headers={"X-Key": "s3cret"})})
    new = Settings(
        port=1,
        workers=2,
        strict=True,
        log=LogSettings(level="debug", content=True),
        protection=ProtectionSettings(header_timeout_s=1, body_timeout_s=2),
        backends={
            "one": BackendSettings("http://127.0.0.1:9", headers={"X-Key": "other"}),
            "two": BackendSettings("http://b"),
        },
    )
    settings, facts = load_anew(old, lambda: new)
    assert facts == {
        "changed": ["strict", "log.content", "backends.one.headers.X-Key", "backends.two", "protection.body_timeout_s"],
        "needs_restart": ["port", "workers", "log.level", "protection.header_timeout_s"],
    }
    assert (settings.port, settings.workers, settings.strict, settings.log.level) == (9090, 1, True, "info")
    assert settings.protection == ProtectionSettings(body_timeout_s=2)
    assert load_anew(old, lambda: old) == (old, {"changed": []})
