"""What a request would lose on its way to an upstream of another dialect, by the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import orjson

from agenthub.canonical import JSON, ChatRequest, EmbedRequest, GenerateRequest, Loss, Message, Request, TextRequest
from agenthub.dialects import jsontext
from agenthub.dialects.large import read_members
from agenthub.dialects.ledger import BY_OLLAMA, FIELDS, TO_NATIVE, TO_OPENAI, Table
from agenthub.dialects.ledger.rows import loss_of
from agenthub.dialects.ledger.to_openai import RAW
from agenthub.dialects.nameless import nameless_tools
from agenthub.dialects.sizes import LARGE_BYTES
from agenthub.dialects.tool_results import pair_results

_ANSWERS = ("tool_call_id", "tool_name")
"""What says which call a message answers."""


def losses_to_native(request: Request) -> tuple[Loss, ...]:
    """Return what a request loses at Ollama's own API: of one written for it only what Ollama dies of."""
    nameless = nameless_tools(request)
    if request.source is not None and request.source.dialect == "ollama":
        return nameless
    return (*nameless, *request.unmapped, *_lost(TO_NATIVE, request, "", request.extras.items(), _of_openai(request)))


def losses_to_openai(request: Request, flavour: str = "generic") -> tuple[Loss, ...]:
    """Return what a request loses at an OpenAI-compatible API.

    Of one written for it these are only options of an alias, and at an Ollama what that passes over in silence.
    """
    if request.source is not None and request.source.dialect == "openai":
        added = [(f"options.{name}", value) for name, value in request.defaults.items()]
        lost = tuple(_lost(TO_OPENAI, request, flavour, added)) if added else ()
        return (*lost, *passed_over_by_ollama(request)) if flavour == "ollama" else lost
    options = [(f"options.{name}", value) for name, value in request.options.items()]
    losses = [*request.unmapped, *_lost(TO_OPENAI, request, flavour, request.extras.items(), options)]
    losses += _lost(TO_OPENAI, request, flavour, _of_ollama(request))
    if isinstance(request, GenerateRequest) and (request.raw or request.suffix):
        asked = {name: getattr(request, name) for name in ("system", "images", "format", "think")}
        known = {loss.field for loss in losses}
        losses += [loss for loss in _lost(RAW, request, flavour, asked.items()) if loss.field not in known]
    return tuple(losses)


def passed_over_by_ollama(request: Request) -> tuple[Loss, ...]:
    """Return what Ollama's OpenAI-compatible API does not read of a request that is written in that dialect."""
    if request.source is None or request.source.dialect != "openai":
        return ()
    members = _members(request.source.body)
    read = _read_by_ollama(request.operation)
    asked = {name.lower(): value for name, value in members.items() if name not in read and value is not None}
    if "tool_choice" in asked and not any(value for name, value in members.items() if name.lower() == "tools"):
        del asked["tool_choice"]  # there is nothing to choose from
    return tuple(_lost(BY_OLLAMA, request, "", asked.items())) if asked else ()


@lru_cache
def _read_by_ollama(operation: str) -> frozenset[str]:
    """Return the fields that are read whatever their value, which is most of what clients send."""
    fates = BY_OLLAMA.fates(operation, "")
    return frozenset(field for field, rows in fates.items() if [row[:2] for row in rows] == [(None, None)])


def _members(body: bytes) -> dict[str, JSON]:
    def first(text: bytes) -> JSON:
        # Go reads one value and leaves the rest of the body alone.
        return jsontext.loads_first(text.decode("utf-8"))

    members: dict[str, JSON]
    try:
        members = orjson.loads(body) if len(body) <= LARGE_BYTES else read_members(body, first, FIELDS)
    except ValueError:
        members = first(body)
    return members


def is_representable(request: Request) -> bool:
    """Say whether the canonical request and events hold all of it: not so for what no other API could be asked."""
    if not (request.extras or request.unmapped):
        return True
    if request.source is not None and request.source.dialect == "ollama":
        losses = _lost(TO_OPENAI, request, "", request.extras.items())
    else:
        losses = _lost(TO_NATIVE, request, "", request.extras.items())
    return not any(loss.rejected for loss in (*request.unmapped, *losses))


def _lost(table: Table, request: Request, flavour: str, *asked: Iterable[tuple[str, JSON]]) -> list[Loss]:
    fates, losses = table.fates(request.operation, flavour), list[Loss]()
    for items in asked:
        for field, value in items:
            if (loss := loss_of(fates, field, value)) is not None:
                losses.append(loss)
    return losses


def _of_openai(request: Request) -> list[tuple[str, JSON]]:
    """Return the fields that OpenAI's dialect alone has and that the canonical request has names for."""
    if not isinstance(request, ChatRequest):
        return []
    choice = [("tool_choice", request.tool_choice)] if request.tool_choice is not None and request.tools else []
    return [*choice, ("parallel_tool_calls", not request.one_call)]


def _of_ollama(request: Request) -> list[tuple[str, JSON]]:
    """Return the fields that Ollama's dialect alone has and that the canonical request has names for."""
    asked: list[tuple[str, JSON]] = []
    if request.keep_alive is not None and not request.loads_only:
        asked.append(("keep_alive", request.keep_alive))
    match request:
        case ChatRequest():
            asked += _of_messages(request)
        case GenerateRequest():
            asked += [("template", request.template)] if request.template else []
            asked += [("context", request.context), *([("suffix", request.suffix)] if request.suffix else [])]
        case EmbedRequest():
            asked += [("truncate", request.truncate)] if request.truncate is not None else []
            asked += [] if request.normalised or request.loads_only else [("unnormalised", True)]
    if isinstance(request, TextRequest) and request.think is not None:
        asked.append(("think", request.think))
    return asked


def _of_messages(request: ChatRequest) -> list[tuple[str, JSON]]:
    asked: dict[str, JSON] = {}
    for message in request.messages:
        if message.reasoning:
            asked["messages.thinking"] = True
        if message.images and message.role == "tool":
            asked["messages.images"] = True
        if (message.tool_call_id or message.tool_name) and message.role != "tool":
            asked |= {f"messages.{name}": False for name in _ANSWERS if getattr(message, name)}
    found = list(asked.items())
    return [*found, ("messages.tool_name", None)] if _has_odd_names(request.messages) else found


def _has_odd_names(messages: Sequence[Message]) -> bool:
    """Say whether a result is taken for that of a call with another name, since it tells nothing else."""
    names = [
        (messages[number], messages[calling].tool_calls[index].name)
        for number, (calling, index) in pair_results(messages).items()
    ]
    return any(one.tool_name and not one.tool_call_id and one.tool_name != name for one, name in names)
