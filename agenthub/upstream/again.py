"""Asks again, in other words, where an upstream refuses a word that it does not know."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agenthub.canonical import Batch, Request
from agenthub.errors import UpstreamStatus
from agenthub.offload import offload

Answer = AsyncGenerator[Batch, None]


async def ask_again(
    first: Answer,
    simpler: Callable[[], Answer],
    is_unknown: Callable[[UpstreamStatus], bool],
    learned: Callable[[bool], None],
) -> Answer:
    """Yield ``first``, or what ``simpler`` gives where a status refused the word before anything of an answer came.

    ``learned`` is told once whether the upstream knows the word, when an answer shows it. Where the second is refused
    too, that says what else is wrong.
    """
    has_begun = False
    try:
        async with aclosing(first) as batches:
            async for batch in batches:
                if not has_begun:
                    has_begun = True
                    learned(True)
                yield batch
        return
    except UpstreamStatus as error:
        if has_begun or not is_unknown(error):
            raise
    async with aclosing(simpler()) as batches:
        async for batch in batches:
            if not has_begun:
                has_begun = True
                learned(False)
            yield batch


async def reword(
    request: Request, after: Callable[[UpstreamStatus], bytes | None], error: UpstreamStatus
) -> bytes | None:
    """Return the body that ``after`` makes of ``request`` when it was refused with ``error``, None where none helps.

    That of a large request is made in a thread.
    """
    return await offload(request.size_bytes, after, error)
