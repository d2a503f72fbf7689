"""What the hub does itself for OpenAI's clients of an API that cannot: several choices, and the choice among tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import attrs

from agenthub.canonical import (
    JSON,
    Batch,
    ChatRequest,
    ChoiceStarted,
    Finished,
    GenerateRequest,
    Started,
    Timings,
    ToolCallDelta,
    Usage,
)
from agenthub.errors import InvalidRequest, ToolCallMissing
from agenthub.offload import offload

Asked = TypeVar("Asked", bound=ChatRequest | GenerateRequest)
Number = TypeVar("Number", int, float)
MOST_ANSWERS = 512
Ask = Callable[[Asked], AsyncGenerator[Batch, None]]


def emulated(request: Asked, ask: Ask[Asked]) -> AsyncGenerator[Batch, None]:
    """Return the answer to ``request`` from an upstream that gives one choice a time and chooses tools as it likes."""
    parts = split(request)
    if isinstance(request, ChatRequest) and (request.one_call or is_forced(request)):
        return joined(parts, lambda part: _kept(request, ask(part)))
    return joined(parts, ask) if len(parts) > 1 else ask(request)


def split(request: Asked) -> list[Asked]:
    """Return a request for each choice of each prompt; with a seed, each choice of a prompt has its own.

    Raises InvalidRequest for more than ``MOST_ANSWERS``: they are calls, one after the other.
    """
    prompts = [request]
    count = request.choices * (1 + len(request.more_prompts) if isinstance(request, GenerateRequest) else 1)
    if count > MOST_ANSWERS:
        raise InvalidRequest(f"prompt and n ask for more than {MOST_ANSWERS} answers", param="n")
    if isinstance(request, GenerateRequest) and request.more_prompts:
        texts = (request.prompt, *request.more_prompts)
        prompts = [attrs.evolve(request, prompt=text, more_prompts=()) for text in texts]
    if request.choices == 1:
        return prompts
    return [_choice(prompt, number) for prompt in prompts for number in range(request.choices)]


def _choice(request: Asked, number: int) -> Asked:
    seed = request.options.get("seed")
    if not isinstance(seed, int) or seed == -1:
        return attrs.evolve(request, choices=1)
    # Away from -1, which is no seed, and around within 64 bits.
    of_choice = seed - number if seed < 0 else (seed + number) % 2**63
    return attrs.evolve(request, choices=1, options={**request.options, "seed": of_choice})


async def joined(parts: Sequence[Asked], ask: Ask[Asked]) -> AsyncGenerator[Batch, None]:
    """Ask for one after the other and yield their answers as the choices of one; counts and times are added up."""
    ends: list[Finished] = []
    for index, part in enumerate(parts):
        async with aclosing(await offload(part.size_bytes, ask, part)) as batches:
            opening: Batch = (ChoiceStarted(index),) if index else ()
            async for batch in batches:
                events: Batch = batch[1:] if index and type(batch[0]) is Started else batch
                last = events[-1] if events else None
                if isinstance(last, Finished):
                    ends.append(last)
                    events = events[:-1]
                    if len(ends) == len(parts):
                        events = (*events, _sum(ends))
                if events := opening + events:
                    opening = ()
                    yield events


def _sum(ends: Sequence[Finished]) -> Finished:
    usages = [end.usage for end in ends if end.usage is not None]
    timings = [end.timings for end in ends if end.timings is not None]
    counted = Usage(_total([usage.prompt for usage in usages]), _total([usage.completion for usage in usages]))
    spent = [_total(times) for times in zip(*map(attrs.astuple, timings), strict=True)]
    return Finished(
        ends[0].reason,
        usage=counted if usages else None,
        timings=Timings(*spent) if timings else None,
        context=ends[0].context if len(ends) == 1 else (),
        more_reasons=tuple([end.reason for end in ends[1:]]),
    )


def _total(told: Sequence[Number | None]) -> Number | None:
    """Return the sum, None where a part of it is unknown."""
    known = [value for value in told if value is not None]
    return sum(known) if len(known) == len(told) else None


def is_forced(request: ChatRequest) -> bool:
    """Say whether the model must call a tool."""
    choice = request.tool_choice
    if isinstance(choice, dict) and isinstance(choice.get("allowed_tools"), dict):
        choice = choice["allowed_tools"].get("mode")
    return choice not in (None, "auto", "none")


def offered_tools(request: ChatRequest) -> list[JSON]:
    """Return the tools that the model may choose from, in their own words but for ``strict``."""
    choice = request.tool_choice
    if choice == "none":
        return []
    tools = request.tools
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        named = allowed.get("tools") if isinstance(allowed, dict) else [choice]
        names = {_name(tool) for tool in named} if isinstance(named, list) else set()
        tools = tuple([tool for tool in tools if _name(tool) in names])
    return [_unstrict(tool) for tool in tools]


def _name(tool: JSON) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _unstrict(tool: JSON) -> JSON:
    function = tool.get("function")
    if not isinstance(function, dict) or "strict" not in function:
        return tool
    return {**tool, "function": {name: value for name, value in function.items() if name != "strict"}}


async def _kept(request: ChatRequest, answer: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    called = False
    async with aclosing(answer) as batches:
        async for batch in batches:
            if request.one_call:
                batch = tuple([event for event in batch if not isinstance(event, ToolCallDelta) or not event.index])
            called = called or any(isinstance(event, ToolCallDelta) for event in batch)
            if batch and type(batch[-1]) is Finished and is_forced(request) and not called:
                raise ToolCallMissing("the model called no tool, though tool_choice says that it must")
            if batch:
                yield batch
