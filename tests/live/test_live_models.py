"""A real Ollama, whose models are managed through the hub by the ollama package."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import ollama
import pytest

from agenthub.settings import BackendSettings
from tests.hubs import Answered, RunningHub, running_hub

pytestmark = pytest.mark.live

MADE, COPIED = "agenthub-test-made", "agenthub-test-copied"
MEBIBYTE = 2**20


@pytest.fixture
async def native(real_ollama: str) -> AsyncIterator[RunningHub]:
    """A hub in native mode; what a test made is deleted behind its back."""
    async with running_hub(real_ollama, api_mode="native") as hub:
        yield hub
        for name in (MADE, COPIED):
            await (await hub.http.delete(f"{real_ollama}/api/delete", json={"model": name})).read()


async def names(hub: RunningHub) -> set[str]:
    return {model["id"] for model in (await hub.get("/v1/models")).json()["data"]}


async def test_create_copy_show_and_delete(native: RunningHub) -> None:
    """From ``tiny``, streamed and whole; the lists and the routing know at once, and the answers are Ollama's."""
    client = native.ollama
    parts = [part async for part in await client.create(MADE, from_="tiny", system="Be brief.", stream=True)]
    assert parts[-1].status == "success"
    assert len(parts) > 2
    assert native.hub.router.find(MADE) is not None
    assert (await client.create(MADE, from_="tiny", system="Be brief.")).status == "success"
    assert (await client.copy(MADE, COPIED)).status == "success"
    assert {f"{MADE}:latest", f"{COPIED}:latest"} <= await names(native)
    shown = await client.show(COPIED)
    assert (shown.modelfile or "").count("SYSTEM Be brief.") == 1
    assert shown.capabilities == ["completion"]
    assert (await client.generate(COPIED, "hi", options={"num_predict": 2})).eval_count == 2
    assert (await client.delete(COPIED)).status == "success"
    assert f"{COPIED}:latest" not in await names(native)
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        await client.delete(COPIED)
    assert missing.value.status_code == 404


async def test_the_same_bytes_as_without_the_hub(native: RunningHub, real_ollama: str) -> None:
    """Progress, refusals and empty answers are Ollama's own, byte for byte."""
    asked = [
        ("POST", "/api/create", {"model": MADE, "from": "tiny"}),
        ("POST", "/api/create", {"model": MADE}),
        ("POST", "/api/create", {"model": MADE, "stream": False}),
        ("POST", "/api/copy", {"source": MADE, "destination": COPIED}),
        ("POST", "/api/copy", {"source": "nope", "destination": COPIED}),
        ("POST", "/api/pull", {"model": "127.0.0.1:9/library/nope", "insecure": True}),
        ("POST", "/api/pull", {"model": "127.0.0.1:9/library/nope", "insecure": True, "stream": False}),
        ("POST", "/api/push", {"model": "nope-nope"}),
        ("DELETE", "/api/delete", {"model": "nope"}),
        ("DELETE", "/api/delete", {"model": "a b"}),
    ]
    # Once before, so that every layer is there already.
    await native.ollama.create(MADE, from_="tiny")
    for method, path, body in asked:
        answers = []
        for url in (real_ollama, native.url):
            async with native.http.request(method, url + path, json=body) as response:
                answers.append(Answered(response.status, response.headers, await response.read()))
        direct, through = answers
        assert (through.status, through.body) == (direct.status, direct.body)
        assert (
            through.headers.get("Content-Type", "").split(";")[0]
            == (direct.headers.get("Content-Type", "").split(";")[0])
        )


async def test_what_cannot_be_pulled_or_pushed(native: RunningHub) -> None:
    """A registry that does not answer: an error line after the first, or a 500; not counted, so the fourth is asked."""
    for _ in range(4):
        with pytest.raises(ollama.ResponseError, match="pull model manifest") as failed:
            await native.ollama.pull("127.0.0.1:9/library/nope", insecure=True)
        assert failed.value.status_code == 500
    parts = await native.ollama.pull("127.0.0.1:9/library/nope", insecure=True, stream=True)
    assert (await anext(parts)).status == "pulling manifest"
    with pytest.raises(ollama.ResponseError, match="pull model manifest"):
        await anext(parts)
    await native.ollama.copy("tiny", COPIED)
    with pytest.raises(ollama.ResponseError):
        await native.ollama.push("127.0.0.1:9/library/nope", insecure=True)
    assert {line["outcome"] for line in native.dispatches()} == {"failed", "ok"}


async def test_blobs(native: RunningHub, tmp_path: Path) -> None:
    """404, an upload of something new, 200; the second is answered without being read; blocking too."""
    content = os.urandom(4 * MEBIBYTE)
    path = tmp_path / "blob"
    path.write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (await native.get(f"/api/blobs/{digest}", "HEAD")).status == 404
    wrong = await native.post("/api/blobs/sha256:" + 64 * "a", b"hello")
    assert (wrong.status, wrong.json()["error"].startswith("digest mismatch")) == (400, True)
    assert await native.ollama.create_blob(path) == digest
    assert (await native.get(f"/api/blobs/{digest}", "HEAD")).status == 200
    assert await native.ollama.create_blob(path) == digest
    assert [line["status"] for line in native.dispatches()] == [404, 400, 201, 200, 200]

    def blocking() -> str:
        client = ollama.Client(host=native.url)
        try:
            return client.create_blob(path)
        finally:
            client._client.close()

    assert await asyncio.to_thread(blocking) == digest


async def test_a_model_from_a_file(native: RunningHub, tmp_path: Path) -> None:
    """Uploaded and created through the hub; what is no model is refused in Ollama's words."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"this is no model")
    digest = await native.ollama.create_blob(path)
    with pytest.raises(ollama.ResponseError):
        await native.ollama.create(MADE, files={"broken.gguf": digest})
    assert native.hub.router.find(MADE) is None


async def test_what_the_openai_api_lacks_is_asked_by_the_native_one(real_ollama: str, tmp_path: Path) -> None:
    """The verbs are there through either API, streamed and uploads too; errors are Ollama's own."""
    async with running_hub(real_ollama, api_mode="openai") as hub:
        try:
            assert (await hub.ollama.create(MADE, from_="tiny", system="Be brief.")).status == "success"
            assert [part async for part in await hub.ollama.create(MADE, from_="tiny", stream=True)][-1].status
            assert (await hub.ollama.copy(MADE, COPIED)).status == "success"
            assert (await hub.ollama.show(COPIED)).modelinfo is not None
            assert (await hub.ollama.delete(COPIED)).status == "success"
        finally:
            await hub.ollama.delete(MADE)
        path = tmp_path / "broken.gguf"
        path.write_bytes(b"this is no model")
        digest = await hub.ollama.create_blob(path)
        with pytest.raises(ollama.ResponseError):
            await hub.ollama.create(MADE, files={"broken.gguf": digest})
        with pytest.raises(ollama.ResponseError, match="not found") as missing:
            await hub.ollama.delete("not-there")
        assert missing.value.status_code == 404


async def test_a_server_of_another_kind_has_no_such_verbs(real_ollama: str) -> None:
    """501 where a setting says that it is no Ollama."""
    backends = {"ollama": BackendSettings(url=real_ollama, api_mode="openai", flavour="generic")}
    async with running_hub(backends) as hub:
        with pytest.raises(ollama.ResponseError, match="not supported by backend ollama") as refused:
            await hub.ollama.pull("tiny")
        assert refused.value.status_code == 501


async def test_show_for_copilot(native: RunningHub, real_ollama: str) -> None:
    """As Ollama itself does it in later versions; the rest is the same, but for the order of the parameters."""
    shown = await native.post("/api/show", {"model": "tiny"}, User_Agent="GitHubCopilotChat/0.31.0")
    async with native.http.post(f"{real_ollama}/api/show", json={"model": "tiny"}) as response:
        direct = json.loads(await response.read())
    info = direct["model_info"] | {"general.basename": "tiny"}
    expected = direct | {"model_info": info}
    assert {name: ordered(value) for name, value in shown.json().items()} == {
        name: ordered(value) for name, value in expected.items()
    }


def ordered(value: object) -> object:
    """Return a text with its lines in order: Ollama writes parameters in another one each time."""
    return sorted(value.splitlines()) if isinstance(value, str) else value
