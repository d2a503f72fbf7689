"""Sees a dispatch to its end, whatever that is, and says once what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from agenthub.canonical import Batch
from agenthub.errors import AgentHubError
from agenthub.middleware import Dispatch, Handler, Outcome

_NAMES = {"hit": "cached", "shared": "shared"}


async def watch(
    dispatch: Dispatch, handler: Handler, finished: Callable[[Dispatch, Outcome], None]
) -> AsyncGenerator[Batch, None]:
    """Yield what ``handler`` yields, then call ``finished`` exactly once.

    The consumer handles each batch before it pulls the next, so by then the dispatch knows what was sent of it.
    """
    outcome: tuple[str, str, int | None] = ("ok", "", None)
    batches: AsyncGenerator[Batch, None] | None = None
    is_over = False
    try:
        batches = handler(dispatch)
        async for batch in batches:
            yield batch
        is_over = True
    except (GeneratorExit, asyncio.CancelledError):
        if dispatch.finished is None:
            cut = dispatch.report or dispatch.caller.cut
            outcome = ("abandoned", "", None) if cut is None else ("failed", str(cut), cut.status)
        raise
    except AgentHubError as error:
        outcome = ("rejected" if error.status < 500 else "failed", str(error), error.status)
        raise
    except Exception as error:
        outcome = ("failed", type(error).__name__, 500)
        raise
    finally:
        # What has ended is closed; aclosing would ask it once more, at the price of a batch.
        try:
            if not (is_over or batches is None):
                await batches.aclose()
        finally:
            finished(dispatch, _outcome(dispatch, *outcome))


def _outcome(dispatch: Dispatch, name: str, error: str, status: int | None) -> Outcome:
    if name == "ok":
        name = _NAMES.get(dispatch.cache, name)
    # After the first byte the status on the wire stays what it was.
    return Outcome(name, dispatch.status or status, time.perf_counter() - dispatch.started_at, error)
