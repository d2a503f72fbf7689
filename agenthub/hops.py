"""Hops: the hubs that a request has come through, by HTTP's ``Via`` header (RFC 9110, section 7.6.3).

Each request that a hub sends names it there, behind what the client's request came with. A hub that finds its own name
in a request would ask itself without end, and refuses it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Self

import attrs

from agenthub.errors import LoopDetected

LOOPS = "X-AgentHub-Loops"
"""Header of an answer to another hub: the ways, by names of backends, on which the request would come back."""

MOST_HUBS = 8
"""Replicas behind one address have different names: a ring of those ends only here. No sane chain is as long."""
MOST_ASKING_ALL = 4
"""The same for what asks every backend: in a mesh of hubs the requests multiply with each hop."""

_PREFIX = "agenthub-"
_HUB = re.compile(rf"{_PREFIX}[0-9a-f]{{16}}")
_MEMBER = re.compile(r"[\x20-\x7e]{1,256}")
_WAY = re.compile(r"[ !-+\--~]{1,256}")
_UNFIT = re.compile(r"[^!-+\--~]")
_MOST_MEMBERS, _MOST_LOOPS = 16, 8


def make_hub_id() -> str:
    """Return a new name for a hub, as it stands in ``Via``."""
    return _PREFIX + secrets.token_hex(8)


HUB_ID: ContextVar[str] = ContextVar("hub_id", default=make_hub_id())  # noqa: B039 (one for the process is what is meant)
"""The hub that is being made: one name for the process and its workers, which are forked from it."""


@attrs.define
class Hops:
    """Where a request comes from. ``via`` is the header that each request on its behalf carries.

    ``hubs`` are the hubs that it came through, the first one first. ``loops`` are the ways by which it would have come
    back, as the backends that it was sent to say, by the backend's name.
    """

    via: str
    hubs: tuple[str, ...] = ()
    loops: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    def start(cls, hub: str) -> Self:
        """Return the hops of a request that the hub sends of its own accord."""
        return cls(via_of(hub))

    @classmethod
    def parse(cls, values: Iterable[str], hub: str, most: int) -> Self:
        """Return what the ``Via`` of a request to ``hub`` says; raise LoopDetected where it has come full circle.

        It has also after ``most`` hubs. Of a header that is longer than any proxy makes it, only hubs are passed on.
        """
        members = [member.strip() for value in values for member in value.split(",")]
        members = [member for member in members if _MEMBER.fullmatch(member)]
        named = [(name, member) for member in members if (name := _hub_of(member))]
        hubs = tuple([name for name, _ in named])
        if hub in hubs:
            raise LoopDetected((*hubs[hubs.index(hub) :], hub))
        if len(hubs) >= most:
            raise LoopDetected(hubs[-most:], most)
        if len(members) > _MOST_MEMBERS:
            members = [member for _, member in named]
        return cls(", ".join((*members, via_of(hub))), hubs)

    def hear(self, backend: str, way: str, *, is_loop: bool) -> None:
        """Keep what the answer of a backend says of loops: ``way`` leads on from there, empty where it names none."""
        if not is_loop and not way:
            return
        onward = way.partition(",")[0].strip()
        found = f"{_tame(backend)} > {onward}" if _WAY.fullmatch(onward) else _tame(backend)
        if len(found) > len(self.loops.get(backend, "")):
            self.loops[backend] = found

    @property
    def header(self) -> str:
        """What an answer to another hub says of loops; empty where there are none."""
        return ", ".join(list(self.loops.values())[:_MOST_LOOPS])


def via_of(hub: str) -> str:
    """Return the member of ``Via`` that a hub adds."""
    return f"1.1 {hub}"


def _hub_of(member: str) -> str:
    parts: Sequence[str] = member.split(None, 2)
    return parts[1] if len(parts) > 1 and _HUB.fullmatch(parts[1]) else ""


def _tame(name: str) -> str:
    return _UNFIT.sub("?", name)[:64]


HOPS: ContextVar[Hops | None] = ContextVar("hops", default=None)
"""The hops of the request that is being answered, where it came with a ``Via``."""


def came_from_hub() -> bool:
    """Say whether the request that is being answered came from another hub."""
    hops = HOPS.get()
    return hops is not None and bool(hops.hubs)
