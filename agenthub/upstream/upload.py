"""A body that is passed on as it comes in, without being held."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import attrs


@attrs.define(eq=False)
class Upload:
    """Iterates ``content`` once, and remembers whether it ``is_begun`` and how it broke off.

    ``length`` is its size in bytes where that is known; else it goes in chunks.
    """

    content: AsyncIterable[bytes]
    length: int | None = None
    is_begun: bool = False
    error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_begun = True
        try:
            async for data in self.content:
                yield data
        except Exception as error:
            self.error = error
            raise

    @property
    def headers(self) -> dict[str, str]:
        """What a request says of its body."""
        kind = {"Content-Type": "application/octet-stream"}
        return kind if self.length is None else {**kind, "Content-Length": str(self.length)}
