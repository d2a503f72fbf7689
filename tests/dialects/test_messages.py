"""Messages of a conversation, from each dialect to the other."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from agenthub.canonical import ChatRequest, Loss, Message, ToolCall
from agenthub.dialects import ollama, openai
from agenthub.errors import InvalidRequest, RequestError, Unsupported

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
CALL = {"id": "c1", "type": "function", "function": {"name": "sun", "arguments": "{}"}}


def from_openai(*messages: dict[str, Any]) -> ChatRequest:
    request = OPENAI.parse_request(json.dumps({"model": "m", "messages": messages}).encode())
    assert isinstance(request, ChatRequest)
    return request


def to_native(*messages: dict[str, Any]) -> list[Any]:
    return json.loads(NATIVE.render_request(from_openai(*messages), "m"))["messages"]  # type: ignore[no-any-return]


def to_openai(*messages: dict[str, Any]) -> list[Any]:
    request = NATIVE.parse_request(json.dumps({"model": "m", "messages": messages}).encode())
    return json.loads(OPENAI.render_request(request, "m"))["messages"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("message", "native"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        ({"role": "user"}, {"role": "user", "content": ""}),
        ({"role": "developer", "content": "be brief"}, {"role": "system", "content": "be brief"}),
        ({"role": "wizard", "content": "x"}, {"role": "wizard", "content": "x"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "a\nb"},
        ),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
            {"role": "user", "content": "", "images": [PNG]},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": f"data:image/gif;charset=x;base64,{PNG}"}]},
            {"role": "user", "content": "", "images": [PNG]},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "iVBORw0KGg"}}]},
            {"role": "user", "content": "", "images": ["iVBORw0KGg=="]},
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}]},
            {"role": "user", "content": "", "images": ["UklG"]},
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "no"},
        ),
        ({"role": "assistant", "content": None, "refusal": "no"}, {"role": "assistant", "content": "no"}),
        (
            {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"},
            {"role": "assistant", "content": "a", "thinking": "r"},
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "r"},
            {"role": "assistant", "content": "a", "thinking": "r"},
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c1", "function": {"name": "sun", "arguments": {}}}],
            },
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "sun", "arguments": '{"x":1}'}},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "sun", "arguments": {"x": 1}}}],
            },
        ),
        ({"role": "function", "name": "sun", "content": "1"}, {"role": "tool", "content": "1", "tool_name": "sun"}),
    ],
)
def test_from_openai_to_ollama(message: dict[str, Any], native: dict[str, Any]) -> None:
    """Each of OpenAI's messages is one of Ollama's: text parts joined, images as plain base64, roles that it knows."""
    assert to_native(message) == [native]


def test_a_tools_answer_learns_its_name() -> None:
    """A tool's answer carries the id of the call and, for templates that want it, the name of what was called."""
    parts = [{"type": "text", "text": "sunny"}]
    history = to_native(
        {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": parts}
    )
    assert history[1] == {"role": "tool", "content": "sunny", "tool_name": "sun", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("message", "losses"),
    [
        ({"role": "user", "content": "a", "name": "ann"}, [Loss("messages.name")]),
        ({"role": "user", "content": "a", "cache_control": {"x": 1}}, [Loss("messages.cache_control")]),
        ({"role": "assistant", "content": "a", "audio": {"id": "x"}}, [Loss("messages.audio")]),
        ({"role": "assistant", "content": "a", "audio": None, "annotations": [], "refusal": None}, []),
        ({"role": "user", "content": [{"type": "file"}]}, [Loss("messages.content.file", rejected=True)]),
        ({"role": "user", "content": [{"type": "video"}]}, [Loss("messages.content.video", rejected=True)]),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]},
            [Loss("messages.content.image_url.detail")],
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}}]}, []),
    ],
)
def test_what_messages_lose(message: dict[str, Any], losses: list[Loss]) -> None:
    """What a canonical message has no place for is noted once, or rejected, never lost silently."""
    assert list(from_openai(message, message).unmapped) == losses


def test_remote_images() -> None:
    """A remote image cannot go to Ollama, and the refusal says why in Ollama's words."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    (loss,) = from_openai({"role": "user", "content": [part]}).unmapped
    assert loss.rejected
    assert loss.reason == "image URLs are not currently supported, please use base64 encoded data instead"


@pytest.mark.parametrize(
    ("message", "other"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"role": "user"}, {"role": "user", "content": ""}),
        ({"role": "User", "content": None}, {"role": "user", "content": ""}),
        ({"ROLE": "user", "Content": "x"}, {"role": "user", "content": "x"}),
        ({"role": "control", "content": "x"}, {"role": "control", "content": "x"}),
        (
            {"role": "assistant", "content": "a", "thinking": "r"},
            {"role": "assistant", "content": "a", "reasoning": "r"},
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "sun", "arguments": {"d": 1.0}}}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_00000001",
                        "type": "function",
                        "function": {"name": "sun", "arguments": '{"d":1.0}'},
                    }
                ],
            },
        ),
    ],
)
def test_from_ollama_to_openai(message: dict[str, Any], other: dict[str, Any]) -> None:
    """Each of Ollama's messages is one of OpenAI's; a call without an id gets one."""
    assert to_openai(message) == [other]


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF0000WEBPVP8", "image/webp"),
        (b"GIF89a", "image/gif"),
        (b"who knows", "image/jpeg"),
    ],
)
def test_what_an_image_is(start: bytes, kind: str) -> None:
    """The first bytes of an image tell what OpenAI's data URL calls it; text stands before the images."""
    data = base64.b64encode(start + b"0" * 30).decode()
    (message,) = to_openai({"role": "user", "content": "look", "images": [data]})
    assert message["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}},
    ]


def test_sound() -> None:
    """Sound among Ollama's images is input_audio to OpenAI."""
    data = base64.b64encode(b"RIFF0000WAVEfmt ").decode()
    (message,) = to_openai({"role": "user", "images": [data]})
    assert message["content"] == [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]


def answer_to(name: str | None = None, call_id: str | None = None) -> Message:
    return Message("tool", "x", tool_name=name or "", tool_call_id=call_id or "")


@pytest.mark.parametrize(
    ("calls", "answers", "ids"),
    [
        ("sun moon", [answer_to("moon"), answer_to("sun")], ["call_00000002", "call_00000001"]),
        ("sun moon", [answer_to(), answer_to()], ["call_00000001", "call_00000002"]),
        ("sun sun", [answer_to("sun"), answer_to("sun")], ["call_00000001", "call_00000002"]),
        ("sun moon", [answer_to("stars"), answer_to("moon")], ["call_00000001", "call_00000002"]),
        ("sun", [answer_to(call_id="theirs")], ["theirs"]),
    ],
)
def test_a_tools_answer_finds_its_call(calls: str, answers: list[Message], ids: list[str]) -> None:
    """Clients of Ollama drop ids: an answer goes to the call of its name, else to the next that has none."""
    said = Message("assistant", tool_calls=tuple(ToolCall(name) for name in calls.split()))
    request = ChatRequest(model="m", messages=(said, *answers))
    messages = json.loads(OPENAI.render_request(request, "m"))["messages"]
    assert [message["tool_call_id"] for message in messages[1:]] == ids


def test_an_answer_to_nothing() -> None:
    """A tool's answer without a call before it, or one too many, cannot be told to OpenAI."""
    said = Message("assistant", tool_calls=(ToolCall("sun"),))
    for messages in ((answer_to("sun"),), (said, answer_to("sun"), answer_to("sun"))):
        with pytest.raises(Unsupported, match="a tool message answers no call of the assistant"):
            OPENAI.render_request(ChatRequest(model="m", messages=messages), "m")


@pytest.mark.parametrize("message", ["hi", 5, None, [], {"role": 5}, {"content": 5}, {"content": {"a": 1}}])
@pytest.mark.parametrize("codec", [NATIVE, OPENAI], ids=lambda codec: codec.path)
def test_messages_of_a_wrong_type(codec: Any, message: Any) -> None:
    """What is no message is refused with a text that names the place."""
    with pytest.raises(InvalidRequest) as caught:
        codec.parse_request(json.dumps({"model": "m", "messages": [message]}).encode())
    assert "message" in str(caught.value)


@pytest.mark.parametrize(
    "part", ["text", 5, None, {"type": "text", "text": 5}, {"type": "image_url"}, {"type": "image_url", "image_url": 5}]
)
def test_parts_of_a_wrong_type(part: Any) -> None:
    """A part that is no object, or holds none of what it says, is refused."""
    with pytest.raises(InvalidRequest):
        from_openai({"role": "user", "content": [part]})


@pytest.mark.parametrize("image", ["%%%%", "a b c d e", "é"])
def test_images_that_are_no_base64(image: str) -> None:
    """An image that is no base64 is refused where its kind has to be known."""
    request = NATIVE.parse_request(json.dumps({"model": "m", "messages": [{"images": [image]}]}).encode())
    with pytest.raises(RequestError, match="illegal base64 data"):
        OPENAI.render_request(request, "m")
