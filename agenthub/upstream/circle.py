"""A circle of hubs: an upstream that would only send on what other hubs ask is left alone by these for a while.

Hubs that all name each other would otherwise ask for their lists on every way that there is between them.
"""

from __future__ import annotations

from typing import TypeVar

import attrs

from agenthub.errors import UpstreamError, UpstreamStatus
from agenthub.hops import HOPS, came_from_hub

REST_S = 10.0

Error = TypeVar("Error", bound=UpstreamError)


@attrs.define
class Circle:
    """What the upstream said when a request of another hub went in a circle there, and until when that counts."""

    _text: str = ""
    _way: str = ""
    _until: float = 0.0

    def check(self, name: str, now: float) -> None:
        """Raise the same again for a request that came through several hubs; ``name`` is the backend's.

        For the nearest one the upstream is asked: so that hub learns the way as it is now.
        """
        if now < self._until and (hops := HOPS.get()) is not None and len(hops.hubs) > 1:
            hops.hear(name, self._way, is_loop=True)
            raise UpstreamStatus(508, self._text)

    def note(self, error: Error, way: str, now: float) -> Error:
        """Return the error, kept with its ``way`` where it tells of a circle of another hub's request."""
        if isinstance(error, UpstreamStatus) and error.is_loop and came_from_hub():
            self._text, self._way, self._until = str(error), way, now + REST_S
        return error
