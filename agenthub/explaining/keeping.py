"""What the cache has to do with a request."""

from __future__ import annotations

from agenthub.canonical import JSON
from agenthub.explaining.case import Case
from agenthub.middleware.caching import Caching

_NOW = {
    "hit": "the answer is kept: nobody would be asked",
    "shared": "the same is being asked right now: its answer would be shared",
    "miss": "nothing is kept for it: the answer would be, once it is finished",
}


def explain_cache(case: Case) -> JSON:
    """Return whether the answer may be kept, or why not, under which key, and whether it is there."""
    layer = case.layer(Caching)
    if layer is None:
        return {"is_cacheable": False, "why": "caching is not in the middleware", "key": None, "now": "bypass"}
    if why_not := layer.bypassed(case.dispatch):
        return {"is_cacheable": False, "why": why_not, "key": None, "now": "bypass"}
    why = _NOW[case.cache]
    if case.caller.no_cache:
        why = "Cache-Control: no-cache: it would not be looked up, and the new answer would be kept"
    return {"is_cacheable": True, "why": why, "key": case.key, "now": case.cache}
