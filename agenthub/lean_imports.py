"""Lean imports: what libraries import beside themselves, where it is installed, and the hub does not use.

structlog imports rich for tracebacks that show local variables, which a hub's log never does; aiocache imports redis
for a cache that the hub has its own of. Both do without where it is not installed, and are told so here. Everybody else
gets what they import, and what is imported already stays.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from types import FrameType

_UNUSED: Mapping[str, str] = {"rich": "structlog", "redis": "aiocache"}


class _Unused(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in _UNUSED and _importer(sys._getframe(1)).partition(".")[0] == _UNUSED[fullname]:
            raise ModuleNotFoundError(f"{fullname} is not used by {_UNUSED[fullname]} here", name=fullname)


def _importer(frame: FrameType | None) -> str:
    while frame is not None and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""


sys.meta_path.insert(0, _Unused())
