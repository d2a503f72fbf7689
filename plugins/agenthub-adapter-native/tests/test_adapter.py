"""The native adapter by itself, in front of the stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from agenthub import (
    BackendSettings,
    ChatRequest,
    EmbedRequest,
    Event,
    Finished,
    Message,
    RelayRequest,
    Started,
    TextDelta,
    UpstreamError,
    UpstreamStatus,
    assemble,
)
from agenthub.standin import Fault, Standin, running
from agenthub_adapter_native.adapter import NativeAdapter, callers_fault, make_adapter


@pytest.fixture
def standin() -> Standin:
    return Standin(text="one two")


@pytest.fixture
async def adapter(standin: Standin) -> AsyncIterator[NativeAdapter]:
    async with running(standin) as url, make_adapter("box", BackendSettings(url=url)) as opened:
        yield opened


async def events_of(adapter: NativeAdapter, request: ChatRequest) -> list[Event]:
    return [event async for batch in adapter.chat(request) for event in batch]


async def test_it_lists_and_pings(adapter: NativeAdapter, standin: Standin) -> None:
    """The models as /api/tags names them; a ping raises where no Ollama answers."""
    assert [model.name for model in await adapter.models()] == ["standin:latest", "standin-embed:latest"]
    await adapter.ping()
    standin.down = True
    with pytest.raises(UpstreamStatus):
        await adapter.ping()


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_answers_a_canonical_request(adapter: NativeAdapter, standin: Standin, streamed: bool) -> None:
    """The first event is Started, the last Finished with its counts; the upstream is asked for its own name."""
    request = ChatRequest(
        model="alias", upstream_model="standin", stream=streamed, messages=(Message("user", "hi"),), options={"seed": 1}
    )
    events = await events_of(adapter, request)
    assert type(events[-1]) is Finished
    assert assemble(events).text == "one two"
    assert sum(type(event) is TextDelta for event in events) == (2 if streamed else 1)
    assert standin.requests[-1].json()["model"] == "standin"
    assert standin.requests[-1].json()["options"] == {"seed": 1}


async def test_it_embeds_and_relays(adapter: NativeAdapter) -> None:
    """Vectors in their order; show and ps as Ollama words them."""
    embedded = adapter.embed(EmbedRequest(model="standin-embed", inputs=("a",)))
    events = [event async for batch in embedded for event in batch]
    assert len(assemble(events).vectors) == 1
    shown = [batch async for batch in adapter.relay(RelayRequest(verb="show", model="standin"))]
    assert b"model_info" in shown[-1][1].data  # type: ignore[union-attr]


async def upload() -> AsyncIterator[bytes]:
    yield b"hel"
    yield b"lo"


async def test_it_relays_each_verb_that_it_has(adapter: NativeAdapter, standin: Standin) -> None:
    """What the hub does not know to be there it asks for all the same: the answer is the upstream's bytes."""
    digest = f"sha256:{sha256(b'hello').hexdigest()}"
    requests = {
        "pull": RelayRequest(verb="pull", model="fresh", stream=True),
        "push": RelayRequest(verb="push", model="fresh"),
        "create": RelayRequest(verb="create", model="fresh", arguments={"model": "made"}),
        "copy": RelayRequest(verb="copy", model="made", arguments={"destination": "copied"}),
        "show": RelayRequest(verb="show", model="copied"),
        "delete": RelayRequest(verb="delete", model="made"),
        "blobs": RelayRequest(verb="blobs", model="", arguments={"digest": digest}, content=upload(), length=5),
        "ps": RelayRequest(verb="ps", model=""),
        "version": RelayRequest(verb="version", model=""),
    }
    assert adapter.operations == {"chat", "generate", "embed", *requests}
    statuses = {}
    for verb, request in requests.items():
        events = [event async for batch in adapter.relay(request) for event in batch]
        assert type(events[-1]) is Finished
        assert isinstance(events[0], Started)
        statuses[verb] = events[0].status
    assert statuses == dict.fromkeys(requests, 200) | {"blobs": 201}
    assert [model.name for model in standin.models] == ["copied", "fresh", "standin", "standin-embed"]
    assert standin.blobs == {digest.replace(":", "-"): 5}


async def test_failures_are_upstream_errors(adapter: NativeAdapter, standin: Standin) -> None:
    """The status and the words of the upstream; options of a wrong type are the caller's fault and not counted."""
    request = ChatRequest(model="standin", messages=(Message("user", "hi"),))
    standin.script(Fault.answer(500, 'option "seed" must be of type integer'), Fault.answer(500, "crashed"))
    for counted in (False, True):
        with pytest.raises(UpstreamError) as failed:
            await events_of(adapter, request)
        assert failed.value.status == 500
        assert failed.value.counted is counted


def test_whose_fault() -> None:
    """Ollama blames the request with a 500 in two kinds of words."""
    assert callers_fault('invalid format: "yaml"; expected "json"')
    assert not callers_fault("llama runner process has terminated")
