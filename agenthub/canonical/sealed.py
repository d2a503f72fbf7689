"""Sealed: frozen attrs classes that are quick to make, for those that have many fields and are made for each request.

attrs sets each field of a frozen class by a call, since its plain assignment is refused. That was a fifth of what the
hub itself does for a short request. Here an object is of a class that takes assignments while it is made, and of the
frozen one, which is a subclass and adds nothing, from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

_set_class = object.__setattr__


def _refuse(self: object, name: str, *value: object) -> NoReturn:
    raise attrs.exceptions.FrozenInstanceError


def _sealed(cls: type | None = None, *, kw_only: bool = False) -> Any:
    """Make a class as ``attrs.frozen`` does."""

    def seal(plain: type) -> type:
        def thaw(self: Any) -> None:
            if self.__class__ is frozen:  # and no subclass, which has fields of its own
                _set_class(self, "__class__", thawed)

        def freeze(self: Any) -> None:
            if self.__class__ is thawed:
                self.__class__ = frozen

        hooks: dict[str, Callable[..., None]] = {"__attrs_pre_init__": thaw, "__attrs_post_init__": freeze}
        for name, hook in (*hooks.items(), ("__setattr__", object.__setattr__), ("__delattr__", object.__delattr__)):
            setattr(plain, name, hook)
        thawed: type = attrs.define(unsafe_hash=True, kw_only=kw_only)(plain)
        told = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
        refusing = {"__setattr__": _refuse, "__delattr__": _refuse}
        frozen = type(plain.__name__, (thawed,), {"__slots__": (), **told, **refusing})
        return frozen

    return seal if cls is None else seal(cls)


if TYPE_CHECKING:
    from attrs import frozen as sealed
else:
    sealed = _sealed

__all__ = ["sealed"]
