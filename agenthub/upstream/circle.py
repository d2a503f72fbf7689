"""A circle of hubs: an upstream that would only send on what other hubs ask is left alone by these for a while.

Hubs that all name each other would else ask for their lists on every way that there is, and that are very many.
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
    _until: float = 0.0

    def check(self, name: str, now: float) -> None:
        """Raise the same again for a request of another hub, instead of asking; ``name`` is the backend's."""
        if self._text and now < self._until and came_from_hub():
            if (hops := HOPS.get()) is not None:
                hops.hear(name, "", is_loop=True)
            raise UpstreamStatus(508, self._text)

    def note(self, error: Error, now: float) -> Error:
        """Return the error, having kept it where it tells of a circle of another hub's request."""
        if isinstance(error, UpstreamStatus) and error.is_loop and came_from_hub():
            self._text, self._until = str(error), now + REST_S
        return error
