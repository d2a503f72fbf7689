"""What the stand-in says: a function of the request alone, in neither dialect."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import cycle, islice, takewhile
from typing import Any, NamedTuple

import attrs
import orjson

from .choosing import chosen, named
from .schemas import Clues, instance
from .state import CONTEXT_LENGTH, Model, Standin

THOUGHT = "Let me think about that."
DIMENSIONS = 8

# As with real tokenizers a symbol such as ☕ does not swallow the space before it.
_PIECE = re.compile(r"\s+(?=[^\w\s\x00-\x7f])|\s*(?:\w+|[^\w\s]+)(?:\s+\Z)?")


class Message(NamedTuple):
    """One turn of a conversation, its text only."""

    role: str
    content: str


class Call(NamedTuple):
    """One tool call; ``arguments`` is an object."""

    id: str
    name: str
    arguments: object


@attrs.frozen(kw_only=True)
class Ask:
    """A request in neither dialect: ``name`` is the model as the client spelled it, ``limit`` in tokens, 0 for none.

    ``choice`` is OpenAI's ``tool_choice``.
    """

    model: Model
    name: str
    messages: Sequence[Message]
    stream: bool
    limit: int = 0
    stop: Sequence[str] = ()
    form: object = None
    tools: Sequence[Any] = ()
    choice: object = None
    think: bool = False


@attrs.frozen
class Reply:
    """``thinking`` and then ``tokens``, a word or a run of punctuation each; ``reason`` is Ollama's ``done_reason``.

    Tokens of an endless stream never end, and its ``eval_count`` means nothing.
    """

    thinking: Sequence[str]
    tokens: Iterable[str]
    calls: Sequence[Call]
    reason: str
    prompt_count: int
    eval_count: int


@lru_cache(maxsize=1024)
def pieces(text: str) -> tuple[str, ...]:
    """Cut ``text`` into tokens that join to the same text."""
    return tuple(_PIECE.findall(text) if not text.isspace() else ()) or ((text,) if text else ())


def compose(standin: Standin, ask: Ask) -> Reply:
    """Return what the stand-in says to ``ask``."""
    prompt_count = max(1, sum(len(pieces(message.content)) for message in ask.messages))
    calls = _calls(standin, ask)
    if calls:
        return Reply((), (), calls, "stop", prompt_count, 4 * len(calls))
    thinking = pieces(THOUGHT) if ask.think else ()
    tokens: Sequence[str] = pieces(_text(standin, ask))
    if standin.endless:
        if ask.stream and not ask.limit and not ask.stop:
            return Reply(thinking, cycle(tokens), (), "length", prompt_count, 0)
        tokens = tuple(islice(cycle(tokens), ask.limit or CONTEXT_LENGTH))
    reason = "stop"
    if ask.limit and len(thinking) + len(tokens) >= ask.limit:
        reason = "length"
        thinking = thinking[: ask.limit]
        tokens = tokens[: ask.limit - len(thinking)]
    if ask.stop:
        tokens, reason = _stopped(tokens, ask.stop, reason)
    return Reply(thinking, tokens, (), reason, prompt_count, len(thinking) + len(tokens))


def _text(standin: Standin, ask: Ask) -> str:
    text = standin.text
    if text is None:
        last = ask.messages[-1] if ask.messages else Message("user", "")
        system = next((message.content for message in ask.messages if message.role == "system"), "")
        prefix = f"[system: {system}] " if system else ""
        said = "The tool said" if last.role == "tool" else "You said"
        text = f"{prefix}{said}: {last.content}. ☕ This is the stand-in, not a model."
    if not ask.form:
        return text
    clues = Clues(_asked(ask.messages) if ask.model.agent else "")
    if isinstance(ask.form, dict):
        return orjson.dumps(instance(ask.form, clues)).decode()
    return orjson.dumps(dict.fromkeys(clues.quoted(), "text") or {"reply": text}).decode()


def _stopped(tokens: Sequence[str], stop: Sequence[str], reason: str) -> tuple[Sequence[str], str]:
    text = "".join(tokens)
    ends = [place for word in stop if word and (place := text.find(word)) >= 0]
    return (pieces(text[: min(ends)]), "stop") if ends else (tokens, reason)


def _calls(standin: Standin, ask: Ask) -> tuple[Call, ...]:
    """Call tools: an agent those that it chooses, another model those that the user's message names."""
    role = ask.messages[-1].role if ask.tools and ask.messages else ""
    prompt = _asked(ask.messages)
    if ask.model.agent and (role == "user" or ask.choice == "required" or isinstance(ask.choice, dict)):
        choices = chosen(ask.tools, prompt, ask.choice)
    else:
        choices = named(ask.tools, prompt) if role == "user" and not ask.model.agent else []
    return tuple(Call(_call_id(standin), *choice) for choice in choices)


def _asked(messages: Sequence[Message]) -> str:
    """Return the text of the user's last turn, which may be several messages."""
    until = max((at for at, message in enumerate(messages, 1) if message.role == "user"), default=0)
    turn = takewhile(lambda message: message.role == "user", reversed(messages[:until]))
    return "\n".join(message.content for message in reversed([*turn]) if message.content)


def _call_id(standin: Standin) -> str:
    return "call_" + sha256(str(standin.next_serial()).encode()).hexdigest()[:8]


@lru_cache(maxsize=4096)
def vector(text: str, dimensions: int = 0) -> tuple[float, ...]:
    """Return the first ``dimensions`` (0: all 8) numbers made from ``text``, of length 1."""
    return _unit(raw_vector(text)[: dimensions or DIMENSIONS])


def raw_vector(text: str) -> tuple[float, ...]:
    """Return 8 numbers between -1 and 1 made from ``text``, not normalised."""
    digest = sha256(text.encode(errors="replace")).digest()
    return tuple(int.from_bytes(digest[at : at + 4], "big") / 2**31 - 1 for at in range(0, 4 * DIMENSIONS, 4))


def _unit(numbers: Sequence[float]) -> tuple[float, ...]:
    length = math.hypot(*numbers) or 1.0
    return tuple(round(number / length, 9) for number in numbers)
