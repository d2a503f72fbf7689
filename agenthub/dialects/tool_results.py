"""Tool results: the call that each one answers, by its id, by the tool's name, or by its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeAlias

import attrs

from agenthub.canonical import Message, ToolCall

Place: TypeAlias = tuple[int, int]
"""A call: the number of its message in the history, and its own in the message."""
Keys: TypeAlias = tuple[Hashable, ...]


def pair_results(messages: Sequence[Message]) -> dict[int, Place]:
    """Return the call that each tool message answers, by the message's number; one that answers none is left out.

    Only calls before it count, and each is answered once. What says most goes first, over the whole history: id and
    name, then the id, then the name, then the order. Clients number their calls again in each turn, so the calls of
    the last turn come first, and in a turn the oldest. An id that no call has may belong to a call without one.
    """
    if not any(message.role == "tool" for message in messages):
        return {}
    pairing = _Pairing(messages)
    for of_call, of_result in _BY_ID:
        pairing.look(of_call, of_result)
    ids = {call.id for message in messages for call in message.tool_calls if call.id}
    for of_call, of_result in _BY_PLACE:
        pairing.look(of_call, partial(_of_unknown, ids, of_result))
    return pairing.found


def _of_unknown(ids: set[str], key: Callable[[Message], Hashable], result: Message) -> Hashable:
    return None if result.tool_call_id in ids else key(result)


def _both_of_result(result: Message) -> Hashable:
    return (result.tool_call_id, result.tool_name) if result.tool_call_id and result.tool_name else None


def _name_of_result(result: Message) -> Hashable:
    return (bool(result.tool_call_id), result.tool_name) if result.tool_name else None


_Way: TypeAlias = tuple[Callable[[ToolCall], Keys], Callable[[Message], Hashable]]
"""How calls and results are compared: by the keys of a call, and the key of a result or None."""
_BY_ID: Sequence[_Way] = (
    (lambda call: ((call.id, call.name),) if call.id else (), _both_of_result),
    (lambda call: (call.id,) if call.id else (), lambda result: result.tool_call_id or None),
)
# A result with an id does not answer a call that has another.
_BY_PLACE: Sequence[_Way] = (
    (lambda call: ((False, call.name),) if call.id else ((False, call.name), (True, call.name)), _name_of_result),
    (lambda call: (False,) if call.id else (False, True), lambda result: bool(result.tool_call_id)),
)


@attrs.define
class _Pairing:
    """The pairs that were found so far."""

    messages: Sequence[Message]
    found: dict[int, Place] = attrs.field(factory=dict)
    _turns: list[int] = attrs.field(init=False)
    _taken: set[Place] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self._turns = turns_of(self.messages)

    def look(self, of_call: Callable[[ToolCall], Keys], of_result: Callable[[Message], Hashable]) -> None:
        """Pair what is not paired yet and has a key in common."""
        waiting: dict[Hashable, list[tuple[int, deque[Place]]]] = {}
        for number, message in enumerate(self.messages):
            for index, call in enumerate(message.tool_calls):
                if (place := (number, index)) not in self._taken:
                    for key in of_call(call):
                        _add(waiting.setdefault(key, []), self._turns[number], place)
            if message.role != "tool" or number in self.found or (wanted := of_result(message)) is None:
                continue
            if (taken := self._take(waiting.get(wanted, []))) is not None:
                self.found[number] = taken
                self._taken.add(taken)

    def _take(self, turns: list[tuple[int, deque[Place]]]) -> Place | None:
        """Remove and return the oldest call of the last turn that is still waiting."""
        while turns:
            places = turns[-1][1]
            while places:
                if (place := places.popleft()) not in self._taken:
                    return place
            turns.pop()
        return None


def _add(turns: list[tuple[int, deque[Place]]], turn: int, place: Place) -> None:
    if not turns or turns[-1][0] != turn:
        turns.append((turn, deque()))
    turns[-1][1].append(place)


def turns_of(messages: Sequence[Message]) -> list[int]:
    """Return the number of each message's turn: calls that follow a result or a user's words begin another."""
    turn, is_over, turns = 0, False, list[int]()
    for message in messages:
        if message.role != "assistant":
            is_over = True
        elif message.tool_calls and is_over:
            turn, is_over = turn + 1, False
        turns.append(turn)
    return turns


def make_ids(messages: Sequence[Message], pairs: dict[int, Place]) -> dict[Place, str]:
    """Return an id for each call: its own, else that of its result, else a new one.

    Two calls of one turn never have the same, whatever the client called them.
    """
    if not any(message.tool_calls for message in messages):
        return {}
    answers = {place: messages[number].tool_call_id for number, place in pairs.items()}
    turns = turns_of(messages)
    calls = [
        ((number, index), call) for number, one in enumerate(messages) for index, call in enumerate(one.tool_calls)
    ]
    taken = {call.id for _, call in calls} | set(answers.values())
    ids: dict[Place, str] = {}
    used: set[tuple[int, str]] = set()
    for count, (place, call) in enumerate(calls, 1):
        call_id = call.id or answers.get(place, "")
        if not call_id or (turns[place[0]], call_id) in used:
            call_id = _new_id(count, taken)
        used.add((turns[place[0]], call_id))
        ids[place] = call_id
    return ids


def _new_id(count: int, taken: set[str]) -> str:
    call_id, attempt = f"call_{count:08d}", 0
    while call_id in taken:
        attempt += 1
        call_id = f"call_{count:08d}_{attempt}"
    taken.add(call_id)
    return call_id


def in_one_message(messages: Sequence[Message]) -> list[Message]:
    """Return the history with calls of one turn in one message, where a client has one for each.

    OpenAI's own server wants the results of a message's calls right behind it. Clients that keep each piece of a stream
    as a message of its own leave another call between them.
    """
    turns: list[list[Message]] = []
    for message in messages:
        if turns and _calls(turns[-1][-1]) and _calls(message):
            turns[-1].append(message)
        else:
            turns.append([message])
    return [turn[0] if len(turn) == 1 else _joined(turn) for turn in turns]


def _calls(message: Message) -> bool:
    return message.role == "assistant" and bool(message.tool_calls)


def _joined(turn: Sequence[Message]) -> Message:
    return attrs.evolve(
        turn[0],
        content="\n".join([message.content for message in turn if message.content]),
        reasoning="\n".join([message.reasoning for message in turn if message.reasoning]),
        tool_calls=tuple([call for message in turn for call in message.tool_calls]),
    )


def with_names(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the history in which each tool message names the tool that it is a result of, where a call tells."""
    if not any(message.role == "tool" and not message.tool_name for message in messages):
        return tuple(messages)
    pairs, named, seen = pair_results(messages), list(messages), dict[str, str]()
    for number, message in enumerate(messages):
        seen |= {call.id: call.name for call in message.tool_calls if call.id}
        if message.role != "tool" or message.tool_name:
            continue
        if (place := pairs.get(number)) is not None:
            name = messages[place[0]].tool_calls[place[1]].name
        else:
            # One more result of a call that has its result.
            name = seen.get(message.tool_call_id, "")
        named[number] = attrs.evolve(message, tool_name=name)
    return tuple(named)


def in_order(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the history with results of equal names that follow one another in the order of their calls.

    Ollama tells results of different tools apart by name, and those of one tool by nothing but their order.
    """
    runs = _runs(messages)
    if not runs:
        return messages
    pairs, ordered = pair_results(messages), list(messages)
    for run in runs:
        numbers = [number for number in run if number in pairs]
        for number, source in zip(numbers, sorted(numbers, key=pairs.__getitem__), strict=True):
            ordered[number] = messages[source]
    return ordered


def _runs(messages: Sequence[Message]) -> list[list[int]]:
    """Return the numbers of tool messages that follow one another and have one name, where there are several."""
    runs: list[list[int]] = []
    open_runs: dict[str, list[int]] = {}
    for number, message in enumerate(messages):
        if message.role != "tool":
            open_runs.clear()
            continue
        if message.tool_name not in open_runs:
            runs.append(open_runs.setdefault(message.tool_name, []))
        open_runs[message.tool_name].append(number)
    return [run for run in runs if len(run) > 1]
