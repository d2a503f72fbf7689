"""Exchange: one question and its answer, asked in other words where the server does not know those of the hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from agenthub import Batch, Finished, HttpUpstream, Request, UpstreamStatus, reword
from agenthub.dialects.lane import Lane
from agenthub_adapter_openai.last_batch import StreamClock, without_load
from agenthub_adapter_openai.words import Questions


async def exchange(
    upstream: HttpUpstream, lane: Lane, request: Request, questions: Questions | None = None
) -> AsyncGenerator[Batch, None]:
    """Yield the answer, with the times that the server does not tell at its end.

    Where ``questions`` knows other words for what the server refuses, it is asked again in these.
    """
    clock, has_begun = StreamClock(), False
    while True:
        try:
            async with aclosing(upstream.ask(lane, authorization=request.authorization)) as batches:
                async for batch in batches:
                    if not has_begun:
                        has_begun = True
                        clock.see()
                        if questions is not None:
                            batch = questions.opened(batch)
                    if type(batch[-1]) is Finished:
                        batch = clock.timed(without_load(batch))
                    yield batch
            return
        except UpstreamStatus as error:
            if questions is None or has_begun:
                raise
            body = await reword(request, questions.after, error)
            if body is None:
                raise
        lane.body = body
