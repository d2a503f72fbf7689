"""What the hub does itself for OpenAI's clients of an API that cannot: several choices, and the choice among tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import attrs

from agenthub.canonical import (
    Batch,
    ChatRequest,
    ChoiceStarted,
    Event,
    Finished,
    GenerateRequest,
    Loss,
    ReasoningDelta,
    Started,
    Timings,
    ToolCallDelta,
    Usage,
    assemble,
)
from agenthub.dialects.tool_choice import is_forced, parse_call, render_call_request, unwanted_calls
from agenthub.errors import AgentHubError, InvalidRequest, ToolCallMissing
from agenthub.offload import offload

Asked = TypeVar("Asked", bound=ChatRequest | GenerateRequest)
Number = TypeVar("Number", int, float)
MOST_ANSWERS = 512
MISSING = "the model called no tool, though tool_choice says that it must"
UNWANTED = "the model called a tool that tool_choice does not allow:"
Ask = Callable[[Asked], AsyncGenerator[Batch, None]]


def emulated(request: Asked, ask: Ask[Asked]) -> AsyncGenerator[Batch, None]:
    """Return the answer to ``request`` from an upstream that gives one choice a time."""
    parts = split(request)
    return joined(parts, ask) if len(parts) > 1 else ask(request)


def emulated_chat(request: ChatRequest, ask: Ask[ChatRequest]) -> AsyncGenerator[Batch, None]:
    """Return the answer to ``request`` from an upstream that besides calls tools as it likes."""
    if is_forced(request):
        parts = split(request)
        answer = _forced_choices(parts, ask) if len(parts) > 1 else _forced(parts[0], ask)
    else:
        answer = emulated(request, ask)
    return _first_call(answer) if request.one_call else answer


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


async def _forced(request: ChatRequest, ask: Ask[ChatRequest]) -> AsyncGenerator[Batch, None]:
    """Yield the answer to a request for which the model must call a tool.

    It is held back to its end, for any of its calls may be of a tool that the choice excludes. Where there is none, or
    such a one, the model is asked for nothing but a call; the counts of both are added up. Where that fails too, the
    first answer goes out and ``tool_choice`` is a loss, for a strict client an error: others ask again by themselves,
    and are told in which words the model refused.
    """
    held: list[Event] = []
    async with aclosing(ask(request)) as batches:
        async for batch in batches:
            held += batch
    calls = [event for event in held if isinstance(event, ToolCallDelta) and not (request.one_call and event.index)]
    unwanted = unwanted_calls(request, calls)
    if calls and not unwanted:
        yield tuple(held)
    elif held:
        yield await _called(request, ask, held, f"{UNWANTED} {', '.join(unwanted)}" if unwanted else MISSING)


async def _called(request: ChatRequest, ask: Ask[ChatRequest], held: Sequence[Event], lack: str) -> Batch:
    """Return an answer without the call as one with it, where the model makes one when it is asked for nothing else.

    Raises ToolCallMissing, for a strict client, where it does not.
    """
    end = held[-1]
    if not isinstance(end, Finished):
        return tuple(held)
    call, more, problem = await _ask_for_call(request, ask)
    total = _sum([end, more]) if more is not None else end
    if call is not None:
        kept = [event for event in held[:-1] if isinstance(event, Started | ReasoningDelta)]
        return (*kept, call, attrs.evolve(end, reason="stop", usage=total.usage, timings=total.timings))
    reason = f"{lack}: {problem}"
    if request.strict:
        raise ToolCallMissing(reason)
    lost = (Loss("tool_choice", reason=reason),)
    text = [attrs.evolve(event, losses=lost) if isinstance(event, Started) else event for event in held[:-1]]
    return (*text, attrs.evolve(end, usage=total.usage, timings=total.timings))


async def _ask_for_call(
    request: ChatRequest, ask: Ask[ChatRequest]
) -> tuple[ToolCallDelta | None, Finished | None, str]:
    """Return the call, the end of the answer, and why there is no call."""
    events: list[Event] = []
    try:
        async with aclosing(ask(render_call_request(request))) as batches:
            async for batch in batches:
                events += batch
    except AgentHubError as error:
        # The first answer is good, whatever became of the second question.
        return None, None, str(error)
    answer = assemble(events)
    # Some servers take the whole of an answer for a thought.
    call = parse_call(request, answer.text or answer.reasoning)
    return call, answer.finished, "it answered with a text to the question for a call too"


async def _forced_choices(parts: Sequence[ChatRequest], ask: Ask[ChatRequest]) -> AsyncGenerator[Batch, None]:
    """Yield several such answers as choices; each is whole before the first begins, which tells what was lost."""
    answers: list[list[Batch]] = []
    for part in parts:
        async with aclosing(_forced(part, ask)) as batches:
            answers.append([batch async for batch in batches])
    openings = [batches[0][0] for batches in answers if batches]
    lost = [loss for event in openings if isinstance(event, Started) for loss in event.losses][:1]
    coming = iter(answers)
    async with aclosing(joined(parts, lambda part: _given(next(coming)))) as batches:
        async for batch in batches:
            first = batch[0]
            yield (attrs.evolve(first, losses=tuple(lost)), *batch[1:]) if isinstance(first, Started) else batch


async def _given(batches: Sequence[Batch]) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch


async def _first_call(answer: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """Yield an answer without the calls after the first of each choice."""
    async with aclosing(answer) as batches:
        async for batch in batches:
            kept = tuple([event for event in batch if not isinstance(event, ToolCallDelta) or not event.index])
            if kept:
                yield kept
