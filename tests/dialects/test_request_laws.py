"""What a dialect can carry of a request comes through it unchanged, and no body of any kind makes it crash."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.canonical import ChatRequest, EmbedRequest, GenerateRequest, Request
from agenthub.dialects import Codec, jsontext, ollama, openai
from agenthub.dialects.lane import make_lane
from agenthub.dialects.losses import losses_to_native, losses_to_openai
from agenthub.errors import RequestError
from tests.dialects import strategies
from tests.dialects.recorded import CODECS, names

CARRIED = {
    "/api/chat": strategies.native_chats,
    "/api/generate": strategies.native_generates,
    "/api/embed": strategies.native_embeds,
    "/api/embeddings": strategies.legacy_embeds,
    "/v1/chat/completions": strategies.openai_chats,
    "/v1/completions": strategies.completions,
    "/v1/embeddings": strategies.openai_embeds,
}
FIELDS = names("""
model messages prompt suffix system template context raw images stream stream_options options keep_alive format think
logprobs top_logprobs tools tool_choice input dimensions truncate encoding_format temperature top_p seed stop
max_tokens max_completion_tokens response_format reasoning_effort reasoning n logit_bias functions top_k num_ctx user
""")
LIKELY = st.sampled_from(
    [
        *("m", "json", "auto", "high", "", "AAAA", "data:image/png;base64,AAAA", "5m"),
        *(True, False, None, 0, -1, 5, 1.5, 10**25),
        *([], ["a", "b"], {}, {"type": "json_object"}, {"include_usage": True}, {"num_predict": 5, "stop": ["x"]}),
        [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
        [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}],
        [{"role": "tool", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": "AAAA"}]}],
        [{"role": "user", "images": ["iVBORw0K"], "content": [{"type": "file"}]}],
    ]
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), LIKELY | strategies.json_values, max_size=8)


@pytest.mark.parametrize("path", CARRIED)
@settings(max_examples=60)
@given(data=st.data())
def test_a_request_comes_through_its_dialect(path: str, data: st.DataObject) -> None:
    """parse_request(render_request(x)) is x, for every endpoint and all that it can carry."""
    request, codec = data.draw(CARRIED[path]), CODECS[path]
    assert codec.parse_request(codec.render_request(request, request.model)) == request


@given(strategies.native_chats, st.text(min_size=1))
@settings(max_examples=30)
def test_the_upstreams_name_is_what_is_sent(request: ChatRequest, name: str) -> None:
    """render_request names the model as the upstream calls it, in every codec."""
    for path in ("/api/chat", "/v1/chat/completions"):
        safe = attrs.evolve(request, options={}, messages=())
        assert json.loads(CODECS[path].render_request(safe, name))["model"] == name


def other_codecs(request: Request) -> list[Codec]:
    match request:
        case ChatRequest():
            return [ollama.chat.CODEC, openai.chat.CODEC]
        case GenerateRequest():
            return [ollama.generate.CODEC, openai.completions.CODEC]
        case EmbedRequest():
            return [ollama.embed.CODEC, openai.embeddings.CODEC]
    raise AssertionError(request)


def understood(codec: Codec, body: bytes) -> Request | RequestError:
    try:
        return codec.parse_request(body)
    except RequestError as error:
        return error


def use(codec: Codec, body: bytes) -> None:
    """Take a body as far as it goes; anything but a RequestError fails the test."""
    request = understood(codec, body)
    if isinstance(request, RequestError):
        assert (request.status in (400, 404), bool(str(request))) == (True, True)
        return
    losses_to_native(request), losses_to_openai(request)
    renamed = make_lane(attrs.evolve(request, upstream_model="up"), {codec.path: codec}, codec)
    assert attrs.evolve(codec.parse_request(renamed.body), model=request.model) == request
    for other in other_codecs(request):
        try:
            assert isinstance(jsontext.loads(other.render_request(request, "up")), dict)
        except RequestError:
            continue


@pytest.mark.parametrize("path", CODECS)
@settings(max_examples=120)
@given(body=BODIES)
def test_any_object_is_understood_or_refused(path: str, body: dict[str, Any]) -> None:
    """Known fields with values of any type are understood or refused with a text; nothing crashes.

    What was understood renders for both APIs, or is refused there, and can be sent under an alias.
    """
    use(CODECS[path], json.dumps({"model": "m", "messages": [{"role": "user"}], "input": "x"} | body).encode())


@pytest.mark.parametrize("path", CODECS)
@settings(max_examples=40)
@given(body=st.binary(max_size=40) | st.text('{}[]",:\\u0d8mode l1e-N\ufeff', max_size=24).map(str.encode))
def test_any_bytes_are_understood_or_refused(path: str, body: bytes) -> None:
    """Bytes of any kind are a request or are refused with a text."""
    use(CODECS[path], body)
