"""``agenthub check``: what is wrong with a set-up, and what to do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub.cli.diagnosis import Trouble, diagnose, start_ollama
from agenthub.errors import UpstreamError
from agenthub.middleware import Backend
from agenthub.settings import BackendSettings, Settings
from agenthub.standin import Fault, Model, Standin, running
from tests.cli.support import invoke
from tests.redis_server import RedisServer


def answering(path: str, body: str, status: int = 200) -> TestServer:
    """Return a server that has one answer, for one path."""

    async def answer(http_request: web.Request) -> web.Response:
        return web.Response(text=body, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get(path, answer)
    return TestServer(app)


async def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an Ollama that answers, check ends with 0 and names the settings' source, the adapters and the models."""
    async with running(Standin(models=("b", "a"))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ok    settings: environment: OLLAMA_HOST",
        "ok    adapters: native, openai",
        f"ok    backend ollama: {url} answers through the native API with 2 models: a:latest, b:latest",
    ]


async def test_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which APIs the server answers; one that tells no version is no Ollama, which is no fault."""
    standin = Standin(models=("a",))
    async with running(standin) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        for faults, apis in (([], "native and openai"), ([Fault.answer(404, "no").at("/api/version")] * 2, "openai")):
            standin.script(*faults)
            result = await invoke("check", "--set", "api_mode=auto")
            assert result.exit_code == 0
            text = f"ok    backend ollama: {url} answers through the {apis} API (auto) with 1 model: a:latest"
            assert text in result.stdout.splitlines()


async def test_nothing_listens(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connection refused: the URL that was tried, how to start Ollama just there, and the setting that names it."""
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{closed_port}")
    result = await invoke("check")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"FAIL  backend ollama: nothing listens at http://127.0.0.1:{closed_port} (connection refused)" in lines
    assert f"  ->  Start Ollama: OLLAMA_HOST=127.0.0.1:{closed_port} ollama serve" in lines
    assert "  ->  Or name another server with OLLAMA_HOST (environment)." in lines


async def test_the_setting_of_a_named_backend(closed_port: int) -> None:
    """For a backend of the user's own the remedy names its key and the place where that stands."""
    result = await invoke("check", "--set", f"backends.gpu1.url=http://127.0.0.1:{closed_port}")
    assert result.exit_code == 1
    assert "Or name another server with backends.gpu1.url (command line)." in result.stdout


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("http://127.0.0.1:11434", "Start Ollama: ollama serve"),
        ("http://localhost:11435", "Start Ollama: OLLAMA_HOST=localhost:11435 ollama serve"),
        ("http://[::1]:11434", "Start Ollama: OLLAMA_HOST=[::1]:11434 ollama serve"),
        ("http://[::1]:9", "Start Ollama: OLLAMA_HOST=[::1]:9 ollama serve"),
        ("http://[fd00::7]", "Start Ollama on fd00::7, open to other machines: OLLAMA_HOST=[::] ollama serve"),
        ("http://[fd00::7]:9", "Start Ollama on fd00::7, open to other machines: OLLAMA_HOST=[::]:9 ollama serve"),
        ("http://gpu:11434", "Start Ollama on gpu, open to other machines: OLLAMA_HOST=0.0.0.0 ollama serve"),
        ("http://gpu:99", "Start Ollama on gpu, open to other machines: OLLAMA_HOST=0.0.0.0:99 ollama serve"),
    ],
)
def test_how_to_start_ollama(url: str, command: str) -> None:
    """Ollama is started so that it listens at the URL: elsewhere than here it must be told to take other machines."""
    assert start_ollama(url)[0] == command


async def test_a_server_that_keeps_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-out: the URL, and the settings that would give it longer."""

    async def hang(http_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/{path:.*}", hang)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check", "--set", "health.ping_timeout_s=0.1")
    assert result.exit_code == 1
    assert f"backend ollama: {url} did not answer in time" in result.stdout
    assert "health.ping_timeout_s = 0.1" in result.stdout


async def test_a_server_that_only_speaks_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native mode against an OpenAI-compatible server: the other adapter is tried, and is the remedy."""
    async with answering("/v1/models", '{"data": [{"id": "qwen"}]}') as server:
        url = str(server.make_url("")).rstrip("/")
        monkeypatch.setenv("OLLAMA_HOST", url)
        wrong, right = await invoke("check"), await invoke("check", "--set", "api_mode=openai")
        named = await invoke("check", "--set", f"backends.vllm.url={url}")
    assert (wrong.exit_code, named.exit_code, right.exit_code) == (1, 1, 0)
    assert f"{url} does not speak the native API, but it does speak openai" in wrong.stdout
    assert "  ->  Set OLLAMA_API_MODE=openai." in wrong.stdout
    assert '  ->  Set backends.vllm.api_mode = "openai".' in named.stdout
    assert "answers through the openai API with 1 model: qwen" in right.stdout


async def test_no_model_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server that is no model server is told from one that speaks another API."""
    async with answering("/", "{}") as server:
        monkeypatch.setenv("OLLAMA_HOST", str(server.make_url("")))
        result = await invoke("check")
    assert result.exit_code == 1
    assert "answers, but not as a model server" in result.stdout


async def test_a_server_that_wants_a_key() -> None:
    """401: the key's setting is named; where one is set it is refused, and it is not shown."""
    async with answering("/api/version", '{"error": "unauthorized"}', 401) as server:
        given = f"backends.x.url={server.make_url('')}"
        without = await invoke("check", "--set", given)
        wrong = await invoke("check", "--set", given, "--set", "backends.x.api_key=sk-123")
    assert "wants an API key (401)" in without.stdout
    assert "Set backends.x.api_key, best in .env." in without.stdout
    assert "refuses the API key (401)" in wrong.stdout
    assert "sk-123" not in wrong.output


async def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that does not resolve is named."""
    monkeypatch.setenv("OLLAMA_HOST", "gpu.invalid")
    result = await invoke("check")
    assert "the host gpu.invalid of http://gpu.invalid:11434 is not known" in result.stdout


async def test_a_server_without_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is up but does not list its models in time, or at all, fails with the reason."""
    standin = Standin()
    async with running(standin) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        standin.script(Fault.hang().at("/api/tags"), Fault.hang().at("/api/tags"))
        slow = await invoke("check", "--set", "health.ping_timeout_s=0.3")
        standin.faults.clear()
        standin.script(Fault.answer(500, "disk full").at("/api/tags"))
        broken = await invoke("check")
    assert (slow.exit_code, broken.exit_code) == (1, 1)
    assert f"backend ollama: {url} answers, but does not list its models: no answer in time" in slow.stdout
    assert "does not list its models: disk full" in broken.stdout


async def test_https_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An https URL of a server that speaks plain HTTP is told from a server that is not there."""
    async with running(Standin()) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.replace("http:", "https:"))
        result = await invoke("check")
    assert f"{url.replace('http:', 'https:')}: no secure connection" in result.stdout


def test_a_certificate_that_is_not_trusted() -> None:
    """A certificate of one's own: the variable that names its CA."""
    settings = BackendSettings("https://gpu")
    error = UpstreamError("backend x cannot be reached")
    error.__cause__ = aiohttp.ClientConnectorCertificateError(Mock(), ValueError("self-signed"))
    found = diagnose(Trouble(Settings(backends={"x": settings}), Backend("x", settings), "native", error))
    assert found.text == "backend x: https://gpu: its certificate is not trusted"
    assert found.remedies == ["Name its CA: SSL_CERT_FILE=/path/to/ca.pem"]


async def test_a_hub_in_front_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_HOST set to the hub, as its clients have it, would be a loop: that is found before anything is asked."""
    monkeypatch.setenv("OLLAMA_HOST", "localhost:9090")
    result = await invoke("check")
    assert result.exit_code == 1
    assert "http://localhost:9090 is this hub itself" in result.stdout


async def test_a_server_without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ollama with no model yet is well, but the command that gets one is shown."""
    async with running(Standin(models=())) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check")
    assert result.exit_code == 0
    assert f"  ->  Get one: OLLAMA_HOST={url.removeprefix('http://')} ollama pull llama3.2" in result.stdout


async def test_the_targets_of_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias whose target is there is well; one whose target is not fails with the list and the pull command."""
    aliases = ("--set", "models.good.target=llama", "--set", 'models."gpt-4o".target=llama3:3b')
    async with running(Standin(models=("llama", Model("llama3:1b")))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check", *aliases)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[3:] == [
        "ok    alias good -> llama: on ollama",
        "FAIL  alias gpt-4o -> llama3:3b: backend ollama does not have llama3:3b",
        "  ->  Did you mean llama3:1b?",
        "  ->  There are: llama3:1b, llama:latest",
        f"  ->  Get it: OLLAMA_HOST={url.removeprefix('http://')} ollama pull llama3:3b",
    ]


def rules_of(folder: Path, text: str) -> tuple[str, str]:
    """The options that name a file with these rules."""
    file = folder / "rules.toml"
    file.write_text(text)
    return "--set", f"enhancement.file={file}"


async def test_the_models_of_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules with the same models are one line; a model that nobody has is a warning, for prompts only stay."""
    rules = rules_of(
        tmp_path,
        '[default]\nmodel = "llama"\n[clients.a]\n[clients.b]\nmodel = "gone"\nfallback_models = ["llama"]\n'
        '[clients.c]\nmodel = "gone"\nfallback_models = ["gone2"]\n[clients.d]\nmodel = "gone"\nenabled = false\n'
        '[clients.e]\nmodel = ""\n',
    )
    async with running(Standin(models=("llama",))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check", *rules)
        settled = await invoke("check", "--set", "enhancement.model=gone")
        doctor = json.loads((await invoke("doctor", "--json", *rules)).stdout)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[3:]
    assert [line for line in lines if not line.startswith("  ->")] == [
        "ok    enhancement rules default, a: model llama: on ollama",
        "note  enhancement rule b: model gone: backend ollama does not have gone; llama is asked instead",
        "warn  enhancement rule c: model gone: backend ollama does not have gone; model gone2: backend ollama does not "
        "have gone2; prompts stay as they are",
    ]
    assert sum("ollama pull gone" in line for line in lines) == 2
    assert "warn  enhancement rule default: model gone: backend ollama does not have gone" in settled.stdout
    found = [(one["id"], one["level"]) for one in doctor["findings"] if one["id"].startswith("enhancement.")]
    assert found == [
        ("enhancement.found", "ok"),
        ("enhancement.fallback", "info"),
        ("enhancement.missing", "warning"),
    ]


async def test_the_fallback_models_of_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody has is named by a warning, wherever it stands, while another model of the rule is there."""
    rules = rules_of(
        tmp_path,
        '[default]\nmodel = "llama"\nfallback_models = ["gone", "other"]\n'
        '[clients.a]\nmodel = "lost"\nfallback_models = ["llama", "gone"]\n'
        '[clients.b]\nmodel = "llama"\nfallback_models = ["llama", "other"]\n',
    )
    async with running(Standin(models=("llama", "other"))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("check", *rules)
        doctor = json.loads((await invoke("doctor", "--json", *rules)).stdout)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[3:]
    assert [line for line in lines if not line.startswith("  ->")] == [
        "ok    enhancement rule default: model llama: on ollama",
        "warn  enhancement rule default: fallback model gone: backend ollama does not have gone",
        "note  enhancement rule a: model lost: backend ollama does not have lost; llama is asked instead",
        "warn  enhancement rule a: fallback model gone: backend ollama does not have gone",
        "ok    enhancement rule b: model llama: on ollama",
    ]
    assert sum("ollama pull gone" in line for line in lines) == 2
    found = [(one["id"], one["level"]) for one in doctor["findings"] if one["id"].startswith("enhancement.")]
    assert found.count(("enhancement.no_fallback", "warning")) == 2


async def test_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """--model says which backends would answer for a name, with or without its tag, and fails where none would."""
    async with running(Standin(models=("llama",))) as first, running(Standin(models=("llama", "qwen"))) as second:
        both = ("--set", f"backends.a.url={first}", "--set", f"backends.b.url={second}")
        shared, single = (
            await invoke("check", *both, "--model", "llama"),
            await invoke("check", *both, "--model", "qwen"),
        )
        missing = await invoke("check", *both, "--model", "nope")
    assert "ok    model llama: on a, b\n" in shared.stdout
    assert "ok    model qwen: on b\n" in single.stdout
    assert "FAIL  model nope: no backend has it\n" in missing.stdout
    assert (shared.exit_code, single.exit_code, missing.exit_code) == (0, 0, 1)


async def test_a_model_of_a_backend_that_is_down(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the backend does not answer, a model is not called missing."""
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{closed_port}")
    result = await invoke("check", "--model", "llama")
    assert "FAIL  model llama: not known, since backend ollama does not answer" in result.stdout


async def test_an_open_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address beyond loopback without a key would not be served: that is said, with both remedies."""
    async with running(Standin(models=("a",))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        opened = await invoke("check", "--set", "host=0.0.0.0")
        meant = await invoke("check", "--set", "host=0.0.0.0", "--set", "insecure=true")
        keyed = await invoke("check", "--set", "host=0.0.0.0", "--set", "clients.a.api_key=abc")
    assert [opened.exit_code, meant.exit_code, keyed.exit_code] == [1, 0, 0]
    assert opened.stdout.splitlines()[1:4] == [
        "FAIL  host: 0.0.0.0 is open to other machines, and no client has a key",
        "  ->  Give a client a key: clients.NAME.api_key, best in .env, or clients.NAME.api_key_file.",
        "  ->  Or let everyone in: agenthub serve --insecure (insecure = true, AGENTHUB_INSECURE=true).",
    ]


async def test_wrong_settings_stop_it() -> None:
    """Settings that cannot be used are one line on stderr and status 2, as for every command."""
    result = await invoke("check", "--set", "port=x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == 'agenthub: command line: port: "x" is not allowed: use a whole number, 0 to 65535\n'


async def test_check_looks_at_redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`agenthub check` says whether it answers, and never the password."""
    async with running(Standin()) as upstream:
        monkeypatch.setenv("OLLAMA_HOST", upstream)
        arguments = ("check", "--set", "caching.backend=redis", "--set")
        answers = await invoke(*arguments, f"caching.url={redis_server.url}")
        assert (answers.exit_code, answers.stdout.splitlines()[2]) == (
            0,
            f"ok    redis: 127.0.0.1:{redis_server.port} db 0 answers",
        )
        locked = await invoke(*arguments, f"caching.url=redis://:sesame@127.0.0.1:{redis_server.port}/0")
        await redis_server.kill()
        gone = await invoke(*arguments, f"caching.url={redis_server.url}")
    assert [result.exit_code for result in (locked, gone)] == [1, 1]
    assert "sesame" not in locked.output
    assert f"FAIL  redis: 127.0.0.1:{redis_server.port} db 0 does not: " in gone.stdout
    assert "  ->  Start it, or name another with caching.url." in gone.stdout
