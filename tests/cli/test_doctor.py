"""``agenthub doctor``: broken set-ups, each as a process of its own, and the lines that would help whoever has it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import resource
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from agenthub import __version__
from agenthub.cli import main
from agenthub.cli.doctor import looking
from agenthub.settings import describe
from agenthub.standin import Model, Standin, running
from tests.cli.support import clean_environ, finished, taken_port
from tests.cli.test_plugins_command import install
from tests.hubs import running_hub
from tests.redis_server import RedisServer

FREE = {"AGENTHUB_PORT": "0"}
"""So that nothing else on this machine is in the way of a test."""
WELL, BROKEN, WARNED = 0, 1, 3


@attrs.frozen
class Told:
    """What doctor said: its exit status, its lines, and the same as JSON."""

    status: int
    lines: list[str]
    report: dict[str, Any]

    def says(self, *lines: str) -> None:
        """Check that these lines come one after the other."""
        found = [self.lines[at : at + len(lines)] for at, line in enumerate(self.lines) if line == lines[0]]
        assert list(lines) in found, "\n".join(self.lines)

    def finding(self, id: str) -> dict[str, Any]:
        """Return the only finding of that name."""
        (found,) = (finding for finding in self.report["findings"] if finding["id"] == id)
        return dict(found)

    @property
    def worse(self) -> list[tuple[str, str]]:
        """The findings that are more than a note: level and name."""
        levels = ("warning", "error")
        return [(found["level"], found["id"]) for found in self.report["findings"] if found["level"] in levels]


async def doctor(*arguments: str, prepare: Callable[[], None] | None = None, **variables: str) -> Told:
    """Run it as a process, and once more for scripts: both tell the same."""
    environ = clean_environ(**FREE, **variables)
    status, out, err = await finished("doctor", *arguments, environ=environ, prepare=prepare)
    assert err == ""
    if prepare is None and "PYTHONPATH" not in variables:
        # In this process, which is quicker; the environment is that of the other.
        env = {name: environ.get(name) for name in os.environ.keys() | environ.keys()}
        result = await asyncio.to_thread(CliRunner().invoke, main, ("doctor", *arguments, "--json"), env=env)
        json_status, text, err = result.exit_code, result.stdout, result.stderr
    else:
        json_status, text, err = await finished("doctor", *arguments, "--json", environ=environ, prepare=prepare)
    assert (json_status, err) == (status, "")
    told = Told(status, any_port(out).splitlines(), json.loads(any_port(text)))
    marks = {"ok": "ok", "info": "note", "warning": "warn", "error": "FAIL"}
    for found in told.report["findings"]:
        if found["id"] != "backend.clock":  # counts seconds
            told.says(f"{marks[found['level']]:4}  {found['text']}", *[f"  ->  {line}" for line in found["remedies"]])
    return told


def any_port(text: str) -> str:
    """Return the text without the number of a port that is free: from one run to the next somebody may take it."""
    return re.sub(r"agenthub serve --port [0-9]+", "agenthub serve --port N", text)


def write_config(text: str, name: str = "config/agenthub.toml") -> None:
    """Put a configuration file into the working directory."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def serving(answers: Mapping[str, str], status: int = 404, headers: Mapping[str, str] = {}) -> TestServer:
    """Return a server with these JSON answers by path; anything else is ``status``."""

    async def answer(http_request: web.Request) -> web.Response:
        text = answers.get(http_request.path)
        return web.json_response(text=text or '{"error": "no"}', status=200 if text else status, headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return TestServer(app)


LIKE_LLAMA = {
    "/v1/models": '{"data": [{"id": "qwen"}]}',
    "/api/tags": '{"models": [{"name": "qwen"}]}',
    "/health": '{"status":"ok"}',
}


def url_of(server: TestServer) -> str:
    return str(server.make_url("")).rstrip("/")


# --- the settings


async def test_all_is_well() -> None:
    """With an Ollama that answers there is nothing to warn of, each adapter is said to answer, and the status is 0."""
    async with running(Standin(models=("b", "a"))) as url:
        told = await doctor(OLLAMA_HOST=url)
    assert (told.status, told.worse, told.report["status"]) == (WELL, [], "ok")
    told.says(
        f"ok    backend ollama: {url} answers through the native API with 2 models: a:latest, b:latest",
        "note  backend ollama: asked through native, by the default",
        "ok    backend ollama: through native: answers",
        "ok    backend ollama: through openai: answers",
    )
    told.says(f"      backends.ollama.url = {url} from environment OLLAMA_HOST")
    assert told.lines[-1] == "All is well."
    assert [line for line in told.lines if line in GROUPS] == ["Settings", "Plugins", "Backends", "Machine"]


GROUPS = [group.capitalize() for group in looking.GROUPS]


async def test_a_mode_that_the_environment_hides() -> None:
    """ "Switching modes has no effect": the file's word, with its line, and who goes before it."""
    write_config('# modes\n\napi_mode = "openai"\n')
    async with serving(LIKE_LLAMA) as server:
        told = await doctor(OLLAMA_HOST=url_of(server), OLLAMA_API_MODE="native")
        url = url_of(server)
    assert told.status == BROKEN
    told.says(
        "note  api_mode = native from environment OLLAMA_API_MODE hides openai from config/agenthub.toml:3",
        "  ->  To use what is hidden: unset OLLAMA_API_MODE",
    )
    told.says(
        f"FAIL  backend ollama: {url} does not speak the native API, but it does speak openai",
        "  ->  Set OLLAMA_API_MODE=openai.",
        "note  backend ollama: asked through native, by api_mode (environment OLLAMA_API_MODE)",
    )
    assert {row["key"]: row for row in told.report["settings"]}["api_mode"] == {
        "key": "api_mode",
        "value": "native",
        "default": "native",
        "source": {"layer": "environment", "name": "OLLAMA_API_MODE", "line": None},
        "hides": [{"value": "openai", "source": {"layer": "file", "name": "config/agenthub.toml", "line": 3}}],
    }


async def test_each_layer_in_turn() -> None:
    """A value that all layers have: the command line's, and the others with their places, the nearest first."""
    write_config("[health]\ninterval_s = 1\n")
    write_config("# ours\nAGENTHUB_HEALTH__INTERVAL_S=2\n", ".env")
    async with running(Standin()) as url:
        told = await doctor("--set", "health.interval_s=4", OLLAMA_HOST=url, AGENTHUB_HEALTH__INTERVAL_S="3")
    told.says(
        "note  health.interval_s = 4.0 from command line hides 3.0 from environment AGENTHUB_HEALTH__INTERVAL_S"
        " and 2.0 from .env:2 AGENTHUB_HEALTH__INTERVAL_S and 1.0 from config/agenthub.toml:2",
        "  ->  To use what is hidden: Leave out the option.",
    )
    assert told.status == WELL


async def test_a_backend_that_goes_before_the_hub() -> None:
    """A backend's own mode is named as the one that decides, and the hub's as what it goes before."""
    async with running(Standin()) as url:
        write_config(f'[backends.gpu]\nurl = "{url}"\napi_mode = "native"\n')
        told = await doctor("--api-mode", "openai")
    told.says(
        "note  backend gpu: asked through native, by backends.gpu.api_mode (config/agenthub.toml:3), "
        "which goes before api_mode = openai (command line)"
    )


async def test_all_settings() -> None:
    """--all adds those at their defaults, as many as there are."""
    async with running(Standin()) as url:
        few, every = await doctor(OLLAMA_HOST=url), await doctor("--all", OLLAMA_HOST=url)
    assert [row["key"] for row in few.report["settings"]] == ["port", "backends.ollama.url"]
    every.says("      circuit_breaker.open_for_s = 30.0 from default")
    absent = {key for key, _, _ in describe() if key.startswith(("models.", "clients."))}
    keys = [row["key"] for row in every.report["settings"]]
    assert len(keys) == len(set(keys))
    assert set(keys) == {key.replace("NAME", "ollama") for key, _, _ in describe() if key not in absent}


async def test_bad_toml() -> None:
    """A file that is no TOML: the line of it, and what can be looked at without the settings is."""
    write_config("port = 9090\napi_mode == native\n")
    told = await doctor()
    assert told.status == BROKEN
    assert told.report["settings"] is None
    assert told.worse == [("error", "settings.wrong")]
    wrong = told.finding("settings.wrong")
    assert wrong["text"].startswith("the settings do not load: config/agenthub.toml: not valid TOML: ")
    assert "(at line 2, column 11)" in wrong["text"]
    assert wrong["remedies"] == ["Correct config/agenthub.toml"]
    told.says("note  not looked at, since the settings do not load: backends, models, the port")
    assert {found["group"] for found in told.report["findings"]} == {"settings", "plugins", "backends", "machine"}


@pytest.mark.parametrize(
    ("toml", "environ", "text", "remedy"),
    [
        ("\n[log]\nlevle = 'info'", {}, "config/agenthub.toml: log.levle: unknown key: did you mean log.level?",
         "Correct config/agenthub.toml:3"),
        ("port = 99999", {}, "config/agenthub.toml: port: 99999 is not allowed: use a whole number, 0 to 65535",
         "Correct config/agenthub.toml:1"),
        ("", {"AGENTHUB_PROT": "1"}, "environment: AGENTHUB_PROT: prot: unknown key: did you mean AGENTHUB_PORT?",
         "unset AGENTHUB_PROT, or give it another value"),
        ("", {"AGENTHUB_CLIENTS__E__API_KEY": ""}, "environment: AGENTHUB_CLIENTS__E__API_KEY: clients.e.api_key: "
         "the key is empty: use a key, or leave the setting out",
         "unset AGENTHUB_CLIENTS__E__API_KEY, or give it another value"),
        ("", {"AGENTHUB_CONFIG": "gone.toml"}, "gone.toml: cannot be read: No such file or directory",
         "Write it, or take back what names it: environment AGENTHUB_CONFIG"),
    ],
)  # fmt: skip
async def test_settings_that_do_not_load(toml: str, environ: dict[str, str], text: str, remedy: str) -> None:
    """An unknown key, a wrong value, an unknown variable, a file that is not there: the one line, and the place."""
    write_config(toml)
    told = await doctor(**environ)
    assert told.status == BROKEN
    told.says(f"FAIL  the settings do not load: {text}", f"  ->  {remedy}")


async def test_rules_that_do_not_load() -> None:
    """A mistake in another file of settings is placed in that one."""
    write_config('[default]\n\nmodle = "m"\n', "config/enhancement.toml")
    told = await doctor()
    told.says(
        "FAIL  the settings do not load: config/enhancement.toml: default.modle: unknown key: "
        "did you mean default.model?",
        "  ->  Correct config/enhancement.toml:3",
    )


async def test_a_broken_dotenv() -> None:
    """A value of .env that is wrong is named with its line."""
    write_config("\n\nexport AGENTHUB_STRICT=maybe\n", ".env")
    told = await doctor()
    told.says(
        'FAIL  the settings do not load: .env: AGENTHUB_STRICT: strict: "maybe" is not allowed: use true or false',
        "  ->  Correct .env:3",
    )


async def test_variables_that_are_nearly_ours() -> None:
    """What nobody reads, but looks as if it was meant for the hub, is named with what it could be; Ollama's are not."""
    write_config("AGENT_HUB_PORT=1\n", ".env")
    async with running(Standin()) as url:
        told = await doctor(OLLAMA_HOST=url, OLLAMA_API_MOD="openai", OLLAMA_KEEP_ALIVE="1h", OLLAMA_MODELS="/models")
    assert told.status == WARNED
    told.says(
        "warn  AGENT_HUB_PORT (.env:1 AGENT_HUB_PORT) is no setting, and nobody reads it",
        "  ->  Did you mean AGENTHUB_PORT?",
        "  ->  Or, to be rid of it: Take it out of .env:1 AGENT_HUB_PORT.",
        "warn  OLLAMA_API_MOD (environment OLLAMA_API_MOD) is no setting, and nobody reads it",
        "  ->  Did you mean OLLAMA_API_MODE?",
        "  ->  Or, to be rid of it: unset OLLAMA_API_MOD",
    )
    assert told.lines[-1] == "Found: 2 warnings."


async def test_files_that_are_not_read(tmp_path: Path) -> None:
    """A config file that another one replaces, and a .env beside the config but not where the hub is started."""
    write_config("port = 1")
    write_config("port = 0", "other/hub.toml")
    write_config("AGENTHUB_STRICT=true\n", "other/.env")
    async with running(Standin()) as url:
        told = await doctor("--config", "other/hub.toml", OLLAMA_HOST=url)
    told.says("note  config/agenthub.toml is there but not used: --config names other/hub.toml in its place")
    told.says(
        f"warn  {tmp_path}/other/.env is not read: .env is looked for in the working directory, which is {tmp_path}",
        f"  ->  cd {tmp_path}/other",
        f"  ->  Or copy it: cp {tmp_path}/other/.env {tmp_path}/.env",
    )


async def test_an_ollama_host_that_nobody_looks_at() -> None:
    """OLLAMA_HOST beside a table of backends, or in .env below the environment's, is said to have no effect."""
    write_config("OLLAMA_HOST=http://user:hunter2hunter2@gpu\n", ".env")
    async with running(Standin()) as url:
        below = await doctor(OLLAMA_HOST=url)
        beside = await doctor("--set", f"backends.gpu.url={url}", OLLAMA_HOST="10.0.0.9")
    below.says(
        "note  OLLAMA_HOST (.env:1 OLLAMA_HOST) is not looked at, since the one of the environment goes before it"
    )
    beside.says(
        "note  OLLAMA_HOST (environment OLLAMA_HOST) is not looked at, since backends are configured: gpu",
        "  ->  To be rid of it: unset OLLAMA_HOST",
    )
    assert "hunter2" not in str(below) + str(beside)


# --- the backends


async def test_a_backend_that_is_down(closed_port: int) -> None:
    """Nothing listens: that is said once for what is used and once for each adapter, with how to start Ollama there."""
    told = await doctor(OLLAMA_HOST=f"127.0.0.1:{closed_port}")
    assert told.status == BROKEN
    assert told.worse == [("error", "backend.refused"), ("error", "backends.none")]
    text = f"nothing listens at http://127.0.0.1:{closed_port} (connection refused)"
    told.says(f"FAIL  backend ollama: {text}", f"  ->  Start Ollama: OLLAMA_HOST=127.0.0.1:{closed_port} ollama serve")
    told.says(
        "  ->  Or name another server with OLLAMA_HOST (environment).",
        "note  backend ollama: asked through native, by the default",
        f"note  backend ollama: through native: {text}",
        f"note  backend ollama: through openai: {text}",
        "FAIL  no backend is of use: every request for a model will fail",
    )
    assert told.lines[-1] == "Found: 2 that keep requests from working."


async def test_a_server_of_the_other_api() -> None:
    """A llama.cpp answers /api/tags, but is no Ollama; and with auto it is asked through the API that it speaks."""
    async with serving(LIKE_LLAMA) as server:
        url = url_of(server)
        told = await doctor("--set", f"backends.llama.url={url}")
        auto = await doctor("--set", f"backends.llama.url={url}", OLLAMA_API_MODE="auto")
    assert (told.status, auto.status) == (BROKEN, WELL)
    told.says(
        f"FAIL  backend llama: {url} does not speak the native API, but it does speak openai",
        '  ->  Set backends.llama.api_mode = "openai".',
        "note  backend llama: asked through native, by the default",
        f"note  backend llama: through native: {url} answers, but not as a model server: no",
        "ok    backend llama: through openai: answers",
    )
    auto.says(
        f"ok    backend llama: {url} answers through the openai API (auto) with 1 model: qwen",
        "note  backend llama: asked through auto, which is openai here, by api_mode (environment OLLAMA_API_MODE)",
    )


async def test_a_url_that_ends_in_v1() -> None:
    """An Ollama's URL as OpenAI clients have it: the path is to be left out, or the other API to be used."""
    async with running(Standin()) as url:
        told = await doctor("--set", f"backends.gpu.url={url}/v1")
    assert told.status == BROKEN
    told.says(
        f"FAIL  backend gpu: {url}/v1 does not speak the native API, but it does speak openai",
        f'  ->  If it is an Ollama, leave out the path: backends.gpu.url = "{url}"',
        '  ->  Set backends.gpu.api_mode = "openai".',
    )


async def test_a_key_that_is_refused() -> None:
    """401 from a server that says the key back, in several spellings: the setting to correct, and the key nowhere."""
    key = "sk-Zx81-do-not-show"
    escaped = "".join(f"\\u{ord(char):04x}" for char in key)

    async def repeat(http_request: web.Request) -> web.Response:
        status = 401 if http_request.path.startswith("/refuses") else 500
        return web.json_response(text=f'{{"error": "bad key {key} or {escaped} or {key}-2"}}', status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", repeat)
    async with TestServer(app) as server:
        url = url_of(server)
        write_config(
            f'[backends.a]\nurl = "{url}/refuses"\napi_key = "{key}"\n'
            f'[backends.b]\nurl = "{url}/breaks"\napi_key = "{key}"\nheaders = {{ X-Token = "{key}-2" }}\n'
        )
        told = await doctor("--all", AGENTHUB_BACKENDS__A__API_KEY=f"{key}-3", AGENTHUB_CLIENTS__C__API_KEY=f"{key}-4")
    told.says(
        f"FAIL  backend a: {url}/refuses refuses the API key (401)", "  ->  Set backends.a.api_key, best in .env."
    )
    told.says(
        "note  backends.a.api_key = ******** from environment AGENTHUB_BACKENDS__A__API_KEY "
        "hides ******** from config/agenthub.toml:3"
    )
    told.says("      backends.b.headers.X-Token = ******** from config/agenthub.toml:7")
    told.says("      clients.c.api_key = ******** from environment AGENTHUB_CLIENTS__C__API_KEY")
    assert "bad key ********" in str(told)
    assert key not in str(told)


async def test_a_host_that_nobody_knows() -> None:
    """A name without an address."""
    told = await doctor(OLLAMA_HOST="gpu.invalid")
    assert told.status == BROKEN
    told.says(
        "FAIL  backend ollama: the host gpu.invalid of http://gpu.invalid:11434 is not known",
        "  ->  Correct OLLAMA_HOST (environment).",
    )


async def test_a_server_that_keeps_silent() -> None:
    """Whatever is asked, doctor comes to its end, also where ping_timeout_s would let a health check wait for ever."""
    with taken_port(listening=True) as port:
        told = await doctor("--set", "health.ping_timeout_s=0.2", OLLAMA_HOST=f"127.0.0.1:{port}")
    assert told.worse == [("error", "backend.silent"), ("error", "backends.none")]
    told.says(
        f"FAIL  backend ollama: http://127.0.0.1:{port} did not answer in time",
        f"  ->  Is the machine up, and does no firewall stand between? Try: curl http://127.0.0.1:{port}",
    )


async def test_a_backend_that_is_the_hub() -> None:
    """OLLAMA_HOST as the hub's clients have it makes a loop."""
    with taken_port(listening=False) as port:
        told = await doctor("--port", str(port), OLLAMA_HOST=f"127.0.0.1:{port}")
    assert told.status == BROKEN
    told.says(
        f"FAIL  backend ollama: http://127.0.0.1:{port} is this hub itself, which would ask itself without end",
        "  ->  OLLAMA_HOST with the hub's address is for the ollama command only; start the hub without it: "
        "env -u OLLAMA_HOST agenthub serve",
    )


async def test_a_backend_that_is_another_hub() -> None:
    """A hub behind a hub works, and is said to be one."""
    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        told = await doctor(OLLAMA_HOST=hub.url)
    assert told.status == WELL
    assert told.finding("backend.hub")["text"].startswith(f"backend ollama: {hub.url} is an AgentHub too")


async def test_an_alias_of_a_missing_model() -> None:
    """An alias whose target nobody has, beside one that is well."""
    async with running(Standin(models=("llama", Model("llama3:1b")))) as url:
        write_config('[models.good]\ntarget = "llama"\n[models."gpt-4o"]\ntarget = "llama3:3b"\n')
        told = await doctor(OLLAMA_HOST=url)
    assert told.status == BROKEN
    told.says(
        "Models",
        "ok    alias good -> llama: on ollama",
        "FAIL  alias gpt-4o -> llama3:3b: backend ollama does not have llama3:3b",
        "  ->  Did you mean llama3:1b?",
        "  ->  There are: llama3:1b, llama:latest",
        f"  ->  Get it: OLLAMA_HOST={url.removeprefix('http://')} ollama pull llama3:3b",
    )


@pytest.mark.parametrize(("days", "side"), [(3, "behind"), (-3, "ahead of")])
async def test_a_clock_that_is_off(days: int, side: str) -> None:
    """A backend whose Date is days away from this machine's clock: one of the two is wrong."""
    date = format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)
    async with serving(LIKE_LLAMA, headers={"Date": date}) as server:
        url = url_of(server)
        told = await doctor("--api-mode", "openai", OLLAMA_HOST=url)
    assert (told.status, told.worse) == (WARNED, [("warning", "backend.clock")])
    found = told.finding("backend.clock")
    assert re.fullmatch(
        rf"the clock of this machine is (3 days, 0|2 days, 23):\d\d:\d\d {side} that of backend ollama "
        rf"\({url}\)",
        found["text"],
    )
    assert found["remedies"][0] == "timedatectl set-ntp true"


# --- plugins


async def test_a_plugin_that_is_broken(tmp_path: Path) -> None:
    """It is named with its reason and its distribution; all the rest is looked at without it."""
    install(tmp_path, "acme-torn", "raise RuntimeError('no licence')\n")
    async with running(Standin()) as url:
        told = await doctor(OLLAMA_HOST=url, PYTHONPATH=path_with(tmp_path))
    assert told.worse == [("warning", "plugin.skipped"), ("error", "plugin.broken")]
    told.says(
        "warn  plugin acme_torn (acme-torn 1.2) is broken: RuntimeError('no licence')",
        "  ->  pip install --force-reinstall acme-torn",
    )
    told.says(
        "FAIL  the hub will not start with the broken plugin acme_torn: repair or remove it, "
        'or set plugins.on_error = "skip"',
        "  ->  pip uninstall acme-torn",
    )
    assert told.finding("backend.answers")["subject"] == "ollama"


async def test_a_plugin_that_is_blocked_and_needed() -> None:
    """An adapter in plugins.disabled that api_mode asks for: both settings are named."""
    write_config('api_mode = "openai"\n[plugins]\ndisabled = ["openai"]\n')
    async with running(Standin()) as url:
        told = await doctor(OLLAMA_HOST=url)
    assert told.status == BROKEN
    told.says(f"note  plugin openai (agenthub-adapter-openai {__version__}) is blocked by plugins.disabled")
    told.says(
        "FAIL  the hub will not start: no adapter openai, which api_mode asks for",
        '  ->  Take "openai" out of plugins.disabled (config/agenthub.toml).',
        "  ->  Or use another: OLLAMA_API_MODE=native",
    )
    told.says("FAIL  backend ollama: it is to be asked through the openai API, for which no adapter is loaded")


async def test_two_distributions_with_one_name(tmp_path: Path) -> None:
    """Both are named, the other one is to go, and the rest is looked at with AgentHub's own adapters."""
    install(tmp_path, "acme-native", "")
    (tmp_path / "acme_native-1.2.dist-info/entry_points.txt").write_text("[agenthub]\nnative = acme_native\n")
    async with running(Standin()) as url:
        told = await doctor(OLLAMA_HOST=url, PYTHONPATH=path_with(tmp_path))
    assert told.worse == [("error", "plugin.refused")]
    refused = told.finding("plugin.refused")
    assert "from acme-native 1.2)" in refused["text"]
    assert f"from agenthub-adapter-native {__version__})" in refused["text"]
    assert refused["remedies"] == ["pip uninstall acme-native"]
    assert told.finding("backend.answers")["level"] == "ok"


async def test_a_mode_that_no_adapter_has() -> None:
    """A mode of a backend that is not installed keeps the hub from starting, with the file that says it."""
    async with running(Standin()) as url:
        write_config(f'[backends.gpu]\nurl = "{url}"\napi_mode = "vllm"\n')
        told = await doctor()
    told.says(
        "FAIL  the hub will not start: config/agenthub.toml: backends.gpu.api_mode: 'vllm' is no installed adapter: "
        f"use one of {MODES}"
    )


MODES = "native, openai, auto"


# --- the port, and what else serving needs


async def test_a_port_that_another_hub_has() -> None:
    """A hub that runs is no fault: it may be the very one; a second one needs another port."""
    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        port = hub.url.rpartition(":")[2]
        told = await doctor("--port", port, OLLAMA_HOST=upstream)
    assert told.status == WELL
    found = told.finding("server.running")
    assert (
        found["text"] == f"port {port} is in use: an AgentHub serves at {hub.url}, with the settings of its own start"
    )
    assert found["remedies"][1] == "For a second: agenthub serve --port N"


async def test_a_port_that_ollama_has() -> None:
    """An Ollama where the hub is to be."""
    async with running(Standin()) as upstream, running(Standin()) as other:
        port = other.rpartition(":")[2]
        told = await doctor("--port", port, OLLAMA_HOST=upstream)
    assert told.worse == [("error", "server.port_ollama")]
    found = told.finding("server.port_ollama")
    assert found["text"] == f"port {port} is in use: an Ollama listens at {other}, where the hub is to be"
    assert found["remedies"][0] == "agenthub serve --port N"


async def test_a_port_that_something_else_has() -> None:
    """Another web server with the name that it gives itself, and what is no web server."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-acme\r\n")
        writer.close()
        await writer.wait_closed()

    async with running(Standin()) as upstream, serving({}, headers={"Server": "acme/1"}) as server:
        http = url_of(server)
        web_server = await doctor("--port", str(server.port), OLLAMA_HOST=upstream)
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as ssh:
            port = ssh.sockets[0].getsockname()[1]
            other = await doctor("--port", str(port), OLLAMA_HOST=upstream)
    assert (web_server.worse, other.worse) == ([("error", "server.port_other")], [("error", "server.port_other")])
    text = f"port {http.rpartition(':')[2]} is in use: another HTTP server listens at {http} (acme/1)"
    assert web_server.finding("server.port_other")["text"] == text
    text = f"port {port} is in use: what listens at http://127.0.0.1:{port} speaks no HTTP"
    assert other.finding("server.port_other")["text"] == text


async def test_an_address_that_is_open_to_all() -> None:
    """Beyond loopback without a key the hub does not start: that is said with both ways out."""
    async with running(Standin()) as url:
        told = await doctor("--host", "0.0.0.0", OLLAMA_HOST=url)
        meant = await doctor("--host", "0.0.0.0", "--insecure", OLLAMA_HOST=url)
    assert (told.worse, meant.worse) == ([("error", "server.exposed")], [])
    told.says(
        "FAIL  host: 0.0.0.0 is open to other machines, and no client has a key",
        "  ->  Give a client a key: clients.NAME.api_key, best in .env, or clients.NAME.api_key_file.",
        "  ->  Or let everyone in: agenthub serve --insecure (insecure = true, AGENTHUB_INSECURE=true).",
    )


async def test_redis_that_is_down(closed_port: int) -> None:
    """The hub serves without it, so that it is a warning; the password of its URL is not shown."""
    async with running(Standin()) as url:
        redis = f"redis://:hunter2hunter2@127.0.0.1:{closed_port}/0"
        told = await doctor("--set", "caching.backend=redis", OLLAMA_HOST=url, AGENTHUB_CACHING__URL=redis)
    assert (told.status, told.worse) == (WARNED, [("warning", "server.redis")])
    assert told.finding("server.redis")["text"].startswith(f"redis: 127.0.0.1:{closed_port} db 0 does not: ")
    assert told.finding("server.redis")["remedies"] == ["Start it, or name another with caching.url."]
    told.says("      caching.url = ******** from environment AGENTHUB_CACHING__URL")
    assert "hunter2" not in str(told)


async def test_redis_that_answers(redis_server: RedisServer) -> None:
    """It is named by its address."""
    async with running(Standin()) as url:
        arguments = ("--set", "caching.backend=redis", "--set", f"caching.url={redis_server.url}")
        told = await doctor(*arguments, OLLAMA_HOST=url)
    assert told.status == WELL
    told.says(f"ok    redis: 127.0.0.1:{redis_server.port} db 0 answers")


# --- this machine


async def test_a_low_limit_of_files() -> None:
    """With few open files few streams run at once: how many, and where more is allowed."""

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    async with running(Standin()) as url:
        told = await doctor(prepare=lower, OLLAMA_HOST=url)
    assert told.worse == [("warning", "machine.files")]
    told.says(
        "warn  open files: at most 256, enough for some 96 requests at once (two each)",
        "  ->  Under systemd: LimitNOFILE=65536",
        "  ->  Elsewhere, as root, in /etc/security/limits.conf: * hard nofile 65536",
    )


async def test_a_proxy_that_does_not_apply() -> None:
    """A proxy in the environment is named, without its password, as what the hub does not use."""
    async with running(Standin()) as url:
        told = await doctor(OLLAMA_HOST=url, HTTP_PROXY="http://u:hunter2hunter2@proxy:3128", NO_PROXY="", no_proxy="")
    assert told.status == WELL
    found = told.finding("machine.proxy")
    assert found["text"].startswith("HTTP_PROXY")
    assert found["text"].endswith(": the hub does not use it, backends are asked directly")
    assert found["remedies"] == ["Clients on this machine may: export NO_PROXY=127.0.0.1,localhost"]
    assert "hunter2" not in str(told)


async def test_versions() -> None:
    """What a report of a fault needs to say."""
    told = await doctor()
    text = told.finding("machine.versions")["text"]
    assert text.startswith(
        f"AgentHub {__version__} on Python {platform.python_version()}, {platform.system()}; aiohttp "
    )
    assert told.report["version"] == __version__


# --- what scripts go by


async def test_the_page_names_each_finding() -> None:
    """docs/doctor.md has a row for each name that the code gives, and no other."""
    code = "".join(path.read_text() for path in (ROOT / "agenthub/cli").rglob("*.py"))
    ids = set(re.findall(r'Finding\(\s*"([a-z_.]+)"', code))
    ids |= {f"backend.{id}" for id in re.findall(r'_about\(backend, "(\w+)"', code)}
    ids |= {f"model.{id}" for id in re.findall(r' about\("(\w+)"', code)}
    diagnosis = (ROOT / "agenthub/cli/diagnosis.py").read_text()
    ids |= {f"backend.{id}" for id in re.findall(r'return "(\w+)", (?:f"|text)', diagnosis)}
    page = (ROOT / "docs/doctor.md").read_text()
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE)) == ids


ROOT = Path(__file__).parents[2]


def path_with(folder: Path) -> str:
    """Return PYTHONPATH with a folder of installed distributions before what it has."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
