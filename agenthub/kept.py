"""What outlives a reload of the configuration: state that each hub hands to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar, cast

import attrs

Value = TypeVar("Value")
_NOTHING: Mapping[str, tuple[object, object]] = MappingProxyType({})


@attrs.define
class Kept:
    """State by name, each with a condition under which the next hub may go on with it."""

    _before: Mapping[str, tuple[object, object]] = _NOTHING
    _now: dict[str, tuple[object, object]] = attrs.field(factory=dict, init=False)

    def keep(self, name: str, condition: object, make: Callable[[], Value]) -> Value:
        """Return what the hub before had under ``name``, if its condition was equal, else what ``make`` makes.

        To be called while a hub is made, and to change nothing of the state by itself: the old hub still serves, and
        will go on if the new one cannot be made. What is not asked for then is let go.
        """
        held = self._before.get(name)
        value = cast(Value, held[1]) if held is not None and held[0] == condition else make()
        self._now[name] = (condition, value)
        return value

    def next(self) -> Kept:
        """Return what the next hub is made with."""
        return Kept(self._now)
