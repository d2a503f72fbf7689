"""Tool calls of an answer: those that can be read, and ids for those that came without one."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable

from agenthub.canonical import JSON, Event, ToolCallDelta
from agenthub.dialects import typed

_ALPHABET = string.ascii_lowercase + string.digits


def make_call_id() -> str:
    """Return a fresh id in the shape that Ollama gives: ``call_`` and eight of [a-z0-9]."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def read_calls(
    value: JSON, read: Callable[[JSON], ToolCallDelta], events: list[Event], *, has_said: bool = False
) -> None:
    """Append the calls of a message; ``read`` returns one of them.

    What cannot be read as a call is left out beside what can, or beside an answer that ``has_said`` something. By
    itself it is the answer, so that its error is raised.
    """
    failure: Exception | None = None
    for call in typed.entries(value):
        try:
            events.append(read(call))
        except (TypeError, LookupError, AttributeError) as error:
            failure = failure or error
    if failure is not None and not (events or has_said):
        raise failure
