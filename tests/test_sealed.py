"""Requests and events are frozen, though they are made as classes that are not."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import attrs
import pytest

from agenthub.canonical import ChatRequest, EmbedRequest, Finished, GenerateRequest, Message, RelayRequest, Started

MADE: tuple[Any, ...] = (
    Message("user", "hi"),
    ChatRequest(model="m", messages=(Message("user", "hi"),)),
    GenerateRequest(model="m", prompt="hi"),
    EmbedRequest(model="m", inputs=("hi",)),
    RelayRequest(model="m", verb="show"),
    Started(True),
    Finished("stop"),
)
each = pytest.mark.parametrize("made", MADE, ids=[type(made).__name__ for made in MADE])


@each
def test_nothing_can_be_changed(made: Any) -> None:
    """No field, no other attribute, and none can be taken away."""
    for name in [field.name for field in attrs.fields(type(made))]:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(made, name)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.another = 1


@each
def test_it_is_an_attrs_class_like_any(made: Any) -> None:
    """With values that compare, copies, and a signature."""
    kind = type(made)
    fields = [field.name for field in attrs.fields(kind)]
    assert attrs.has(kind)
    assert fields == list(inspect.signature(kind).parameters)
    assert len(set(fields)) == len(fields)
    for other in (attrs.evolve(made), copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (other, repr(other), type(other)) == (made, repr(made), kind)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(other, fields[0], "changed")
    assert repr(made).startswith(f"{kind.__name__}(")
    assert kind.__doc__
    assert kind.__module__.startswith("agenthub.canonical.")


def test_messages_are_values() -> None:
    """They are equal, have one hash, and are matched by their fields."""
    one, two = Message("user", "hi"), Message("user", "hi")
    assert (one, hash(one)) == (two, hash(two))
    assert one != attrs.evolve(two, content="ho")
    assert Message.__match_args__[:2] == ("role", "content")
    match one:
        case Message(role, content):
            assert (role, content) == ("user", "hi")


def test_kinds_of_requests() -> None:
    """Those of a chat are no others, and what a plugin makes of one has its own fields and stays frozen."""

    @attrs.frozen(kw_only=True)
    class Special(ChatRequest):
        weight: int = 1

    made = Special(model="m", messages=(), weight=2)
    assert (made.model, made.weight, made.operation, type(made)) == ("m", 2, "chat", Special)
    assert isinstance(made, ChatRequest)
    assert not isinstance(made, GenerateRequest)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.weight = 3  # type: ignore[misc]


def test_what_fails_in_the_making() -> None:
    """Says so as for any class."""
    with pytest.raises(TypeError, match="model"):
        ChatRequest(messages=())  # type: ignore[call-arg]
