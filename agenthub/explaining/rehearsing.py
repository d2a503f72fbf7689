"""Has an adapter rehearse: what would it send? See ``agenthub.upstream.rehearsal``."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from agenthub.adapter import Adapter
from agenthub.canonical import Batch
from agenthub.errors import AgentHubError
from agenthub.upstream import HttpUpstream
from agenthub.upstream.rehearsal import STAGE, Rehearsal, Rehearsed


def rehearse(adapter: Adapter, ask: Callable[[Adapter], AsyncGenerator[Batch, None] | Awaitable[object]]) -> Rehearsal:
    """Return what ``ask`` would have ``adapter`` send. Nothing is sent or waited for, and the adapter is as before.

    Only an adapter can rehearse that asks by the ``HttpUpstream`` in its attribute ``upstream``, and by nothing else.
    """
    rehearsal = Rehearsal()
    if not isinstance(getattr(adapter, "upstream", None), HttpUpstream):
        rehearsal.open_end = "this adapter is not built on HttpUpstream, so nobody can tell what it would send"
        return rehearsal
    try:
        twin = copy.deepcopy(adapter)
    except Exception:
        rehearsal.open_end = "this adapter cannot be copied, so nobody can tell what it would send"
        return rehearsal
    token = STAGE.set((rehearsal,))
    try:
        if not _runs_through(_consume(ask, twin)):
            rehearsal.open_end = "this adapter waits for something else than its upstream"
    except Rehearsed:
        rehearsal.open_end = "what comes next hangs on the answer, or is more of the same"
    except AgentHubError as error:
        rehearsal.error = error
    finally:
        STAGE.reset(token)
    return rehearsal


async def _consume(ask: Callable[[Adapter], Any], adapter: Adapter) -> None:
    asked = ask(adapter)
    if not isinstance(asked, AsyncGenerator):
        await asked
        return
    async with aclosing(asked) as batches:
        async for _ in batches:
            pass


def _runs_through(coroutine: Coroutine[Any, Any, None]) -> bool:
    """Run to the end; where it would wait for anything it is broken off, and the answer is False."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    with suppress(RuntimeError):
        coroutine.close()
    return False
