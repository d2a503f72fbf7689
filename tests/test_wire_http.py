"""What HTTP clients meet in every lane: streams or not, keys, types and encodings of bodies, paths and methods."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.api.routes import ROUTES
from tests.hubs import RunningHub, error_of, running_hub
from tests.upstreams import HI, PATHS, Upstream, answering, serving

BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "m", "messages": HI},
    "/api/generate": {"model": "m", "prompt": "hi"},
    "/api/embed": {"model": "m", "input": "hi"},
    "/api/embeddings": {"model": "m", "prompt": "hi"},
    "/v1/chat/completions": {"model": "m", "messages": HI},
    "/v1/completions": {"model": "m", "prompt": "hi"},
    "/v1/embeddings": {"model": "m", "input": "hi"},
}
MODES = ("native", "openai")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving(answering()) as one:
        yield one


@pytest.fixture(params=MODES)
async def hub(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[RunningHub]:
    async with running_hub(upstream.url, api_mode=request.param) as one:
        yield one


@pytest.mark.parametrize("path", BODIES)
async def test_a_broken_body_leaves_the_connection_usable(hub: RunningHub, path: str) -> None:
    """Half a body is a 400 in the dialect's shape, and the next request on the connection is answered."""
    for _ in range(2):
        refused = await hub.post(path, b'{"model":')
        assert (refused.status, bool(error_of(refused.json()))) == (400, True)
        assert (await hub.post(path, BODIES[path] | {"stream": False})).status == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [None, "absent", True, False], ids=str)
async def test_whether_it_streams(hub: RunningHub, path: str, stream: Any) -> None:
    """Ollama's text endpoints stream unless told not to, OpenAI's only when told to, embeddings never."""
    body = BODIES[path] | ({} if stream == "absent" else {"stream": stream})
    answer = await hub.post(path, body)
    streams = "embed" not in path and (stream is True or (stream is not False and path.startswith("/api")))
    kinds = {True: ("application/x-ndjson", "text/event-stream"), False: ("application/json",) * 2}
    assert answer.status == 200
    assert answer.headers["Content-Type"].partition(";")[0] == kinds[streams][path.startswith("/v1")]


@pytest.mark.parametrize("path", BODIES)
async def test_keys_in_any_case_and_twice(hub: RunningHub, path: str) -> None:
    """The model is found under any spelling of its key, the last of several wins, and what follows the body is left."""
    text = json.dumps({"model": "other"} | {key.upper(): value for key, value in BODIES[path].items()})
    answer = await hub.post(path, text.encode() + b" and more")
    assert answer.status == 200
    assert hub.dispatches()[-1]["model"] == "m"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_any_content_type(hub: RunningHub, lane: tuple[str, str], kind: str) -> None:
    """What the body is called does not matter, in any lane."""
    body = json.dumps({"model": "m", "messages": HI, "stream": False}).encode()
    assert (await hub.post(PATHS[lane[0]], body, Content_Type=kind)).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "identity"])
@pytest.mark.parametrize("path", BODIES)
async def test_compressed_bodies(hub: RunningHub, upstream: Upstream, path: str, encoding: str) -> None:
    """They are unpacked on the way in, for each endpoint, and are sent on unpacked."""
    plain = json.dumps(BODIES[path] | {"stream": False}).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "GZIP": gzip.compress, "identity": bytes}[encoding](
        plain
    )
    assert (await hub.post(path, packed, Content_Encoding=encoding)).status == 200
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("encoding", ["compress", "x-unheard-of", "gzip, gzip", "gzip, br"])
@pytest.mark.parametrize("path", [*BODIES, "/api/blobs/sha256:" + "0" * 64, "/api/pull", "/api/show"])
async def test_unknown_compression(hub: RunningHub, upstream: Upstream, path: str, encoding: str) -> None:
    """A body that cannot be unpacked here is a 415 that says what can be, and nothing of it is sent on."""
    for _ in range(2):
        headers = {"Content_Encoding": encoding, "X_AgentHub_Api_Mode": "native"}
        refused = await hub.post(path, b'{"model":"m"}', **headers)
        assert (refused.status, "gzip" in error_of(refused.json()), upstream.asked) == (415, True, [])


@pytest.mark.parametrize("path", sorted({path for _, path, _ in ROUTES if not path.startswith("/{")}))
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_every_path_with_every_method(hub: RunningHub, path: str, method: str) -> None:
    """What a path has not got is a 405 in its dialect's shape with Allow; no HEAD has a body, nothing is a 500."""
    offered = {one for one, known, _ in ROUTES if known == path} | ({"HEAD"} if ("GET", path) in _OFFERED else set())
    concrete = path.replace("{digest}", "sha256:" + "0" * 64).replace("{id:.+}", "m")
    answer = await hub.get(concrete, method=method)
    assert (answer.status == 405) is (method not in offered)
    assert answer.status < 500 or answer.status == 501
    if answer.status == 405:
        assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= offered
    if method == "HEAD":
        assert answer.body == b""
    elif answer.status >= 400:
        assert isinstance(answer.json()["error"], dict if path.startswith("/v1") else str)
    assert (await hub.get("/")).status == 200


_OFFERED = {(method, path) for method, path, _ in ROUTES}
