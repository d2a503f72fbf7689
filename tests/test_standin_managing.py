"""The stand-in's models come and go as an Ollama's do: pull, push, create, copy, delete, blobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agenthub.standin import Fault, Model, Standin, running

RECORDINGS = Path(__file__).parent / "data" / "ollama-0.9.3"
RECORDED = """
88-copy 89-copy-missing 90-delete 91-delete-missing 92-create-stream 93-create-nonstream 94-create-missing-from
95-delete-sys
"""
SUCCESS = {"status": "success"}
DIGEST = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"


@pytest.fixture
def standin() -> Standin:
    return Standin(models=(Model("tiny", ("completion",)),), version="0.9.3")


@pytest.fixture
async def ask(standin: Standin) -> AsyncIterator[Any]:
    """Sends one request and returns the status, the type and the lines of its answer."""
    async with running(standin) as url, aiohttp.ClientSession() as session:

        async def send(method: str, path: str, body: object = None) -> tuple[int, str, list[Any]]:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            async with session.request(method, url + path, data=data) as response:
                kind = response.headers.get("Content-Type", "")
                text = await response.text()
                lines = [json.loads(line) for line in text.splitlines()] if "json" in kind else [text]
                return response.status, kind, lines if text else []

        yield send


def tags(standin: Standin) -> list[str]:
    return [model.tag for model in standin.models]


async def test_answers_as_the_recorded_ollama(ask: Any, standin: Standin) -> None:
    """The same exchanges in the same order: statuses, types, errors, and what a stream says in which order."""
    for name in RECORDED.split():
        record = json.loads((RECORDINGS / f"{name}.json").read_text())
        request, response = record["request"], record["response"]
        status, kind, lines = await ask(request["method"], request["path"], request["body"])
        recorded = [json.loads(line) for line in response["body"].splitlines()]
        headers = dict(response["headers"])
        assert (name, status, kind) == (name, response["status"], headers.get("Content-Type", ""))
        if name == "92-create-stream":
            assert lines[-2:] == recorded[-2:]
            assert {line["status"].split("sha256:")[0] for line in lines} <= {
                line["status"].split("sha256:")[0] for line in recorded
            }
            assert (standin.models[0].tag, standin.models[0].system) == ("tiny-sys:latest", "be brief")
        else:
            assert lines == recorded
    assert tags(standin) == ["tiny:latest"]


async def test_pulls(ask: Any, standin: Standin) -> None:
    """Layer by layer, ``completed`` missing while it is 0; then the model is listed, first, and can be asked."""
    status, kind, lines = await ask("POST", "/api/pull", {"model": "fresh"})
    assert (status, kind) == (200, "application/x-ndjson")
    ends = ["verifying sha256 digest", "writing manifest", "success"]
    assert [line["status"] for line in lines[:1] + lines[-3:]] == ["pulling manifest", *ends]
    layers = lines[1:-3]
    assert all(line["status"] == f"pulling {line['digest'][7:19]}" for line in layers)
    assert "completed" not in layers[0]
    done = {line["digest"]: line.get("completed") == line["total"] for line in layers}
    assert len(done) == 3
    assert all(done.values())
    assert tags(standin) == ["fresh:latest", "tiny:latest"]
    assert (await ask("POST", "/api/show", {"model": "fresh"}))[0] == 200
    assert await ask("POST", "/api/pull", {"name": "fresh", "stream": False}) == (200, "application/json", [SUCCESS])
    assert tags(standin) == ["fresh:latest", "tiny:latest"]


async def test_a_pull_that_is_cut_pulls_nothing(ask: Any, standin: Standin) -> None:
    """Faults befall the verbs by their path."""
    standin.script(Fault.truncate(after=4).at("/api/pull"), Fault.error("disk full", after=2).at("/api/pull"))
    assert len((await ask("POST", "/api/pull", {"model": "fresh"}))[2]) == 4
    assert (await ask("POST", "/api/pull", {"model": "fresh"}))[2][-1] == {"error": "disk full"}
    assert tags(standin) == ["tiny:latest"]


async def test_what_the_registry_lacks(ask: Any) -> None:
    """An error line, or a 500; to create from it is the same."""
    error = {"error": "pull model manifest: file does not exist"}
    for path, body in (("/api/pull", {"model": "nope"}), ("/api/create", {"model": "m", "from": "a/nope:1"})):
        lines = [{"status": "pulling manifest"}, error]
        assert await ask("POST", path, body) == (200, "application/x-ndjson", lines)
        assert await ask("POST", path, body | {"stream": False}) == (500, "application/json", [error])


async def test_pushes(ask: Any) -> None:
    """What it has."""
    _, _, lines = await ask("POST", "/api/push", {"model": "tiny"})
    assert [line["status"] for line in lines[:1] + lines[-2:]] == ["retrieving manifest", "pushing manifest", "success"]
    _, _, lines = await ask("POST", "/api/push", {"model": "gone"})
    assert [list(line) for line in lines] == [["status"], ["status"], ["error"]]
    assert (await ask("POST", "/api/push", {"model": "a b", "stream": False}))[2] == [{"error": "file does not exist"}]


async def test_a_copy_has_the_digest_of_its_source(ask: Any, standin: Standin) -> None:
    """And its abilities; a created model has a digest of its own, a deleted one is in no list."""
    await ask("POST", "/api/copy", {"source": "tiny", "destination": "twin:1"})
    await ask("POST", "/api/create", {"model": "made", "from": "twin:1", "system": "Hi."})
    made, twin, tiny = standin.models
    assert (twin.tag, twin.digest, twin.capabilities) == ("twin:1", tiny.digest, tiny.capabilities)
    assert (made.capabilities, made.digest == tiny.digest) == (tiny.capabilities, False)
    shown = (await ask("POST", "/api/show", {"model": "made"}))[2][0]
    assert (shown["system"], "SYSTEM Hi." in shown["modelfile"]) == ("Hi.", True)
    await ask("POST", "/api/generate", {"model": "made"})
    assert (await ask("DELETE", "/api/delete", {"model": "MADE:latest"}))[0] == 200
    assert (await ask("GET", "/api/ps"))[2] == [{"models": []}]
    assert tags(standin) == ["twin:1", "tiny:latest"]


async def test_blobs(ask: Any, standin: Standin) -> None:
    """Kept by their digest, and good for a model."""
    path = f"/api/blobs/{DIGEST}"
    files = {"model": "made", "files": {"m.gguf": DIGEST}, "stream": False}
    assert (await ask("HEAD", path))[0] == 404
    assert "no such file" in (await ask("POST", "/api/create", files))[2][0]["error"]
    assert await ask("POST", path, "hello") == (201, "", [])
    assert await ask("POST", path, "whatever") == (200, "", [])
    assert await ask("HEAD", path.replace(":", "-")) == (200, "", [])
    assert (await ask("POST", "/api/create", files))[2] == [SUCCESS]
    assert tags(standin) == ["made:latest", "tiny:latest"]
    wrong = f"sha256:{64 * '0'}"
    status, _, lines = await ask("POST", f"/api/blobs/{wrong}", "hello")
    assert (status, lines) == (400, [{"error": f'digest mismatch, expected "{wrong}", got "{DIGEST}"'}])
    assert (await ask("POST", "/api/blobs/sha256:xx", "hello"))[2] == [{"error": "invalid digest format"}]
    assert await ask("GET", path) == (405, "text/plain", ["405 method not allowed"])


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/api/pull", "", "missing request body"),
        ("POST", "/api/pull", '{"model":', "unexpected EOF"),
        ("POST", "/api/pull", "{}", "invalid model name"),
        ("POST", "/api/pull", '{"model":"a b"}', "invalid model name"),
        ("POST", "/api/push", "{}", "model is required"),
        ("POST", "/api/create", '{"model":""}', "invalid model name"),
        ("POST", "/api/create", '{"model":"m","stream":false}', "neither 'from' or 'files' was specified"),
        ("POST", "/api/create", '{"model":"m","from":"a b","stream":false}', "invalid model name"),
        ("POST", "/api/copy", "{}", 'source "" is invalid'),
        ("POST", "/api/copy", '{"source":"tiny","destination":"a b"}', 'destination "a b" is invalid'),
        ("DELETE", "/api/delete", "{}", 'name "" is invalid'),
        ("DELETE", "/api/delete", '{"model":"a b"}', 'name "a b" is invalid'),
    ],
)
async def test_refuses_as_ollama(ask: Any, method: str, path: str, body: str, words: str) -> None:
    """400, in the words of 0.9.3."""
    status, _, lines = await ask(method, path, body)
    assert (status, lines) == (400, [{"error": words}])


async def test_the_newer_words(ask: Any, standin: Standin) -> None:
    """0.33 says of a delete without a name what it says of the others."""
    standin.version = "0.33.0"
    assert (await ask("DELETE", "/api/delete", {}))[2] == [{"error": "model is required"}]
