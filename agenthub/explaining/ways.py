"""Which API a request goes by, by which rule, and what it loses on each way."""

from __future__ import annotations

from collections.abc import Sequence

from agenthub.canonical import JSON, Loss
from agenthub.explaining.case import Case
from agenthub.middleware import Backend
from agenthub.modes import AUTO, explain_mode, weigh


def explain_api_mode(case: Case) -> JSON:
    """Return the mode of the backend that would be asked, the rule that says so, and what ``auto`` has weighed."""
    backend = _backend(case)
    if backend is None:
        return None
    wish = explain_mode(case.dispatcher.router.settings, backend, case.caller, case.route)
    told: dict[str, JSON] = {
        "mode": case.dispatch.api_mode or wish.mode,
        "wished": wish.mode,
        "level": wish.level,
        "rule": wish.rule,
    }
    if wish.mode == AUTO:
        told["weighed"] = [
            {
                "mode": one.kind,
                "answers": one.answers,
                "has_operation": one.is_able,
                "dropped": [loss.field for loss in one.losses if not loss.rejected],
                "rejected": [loss.field for loss in one.losses if loss.rejected],
            }
            for one in weigh(backend, case.dispatch.request)
        ]
    return told


def explain_losses(case: Case) -> JSON:
    """Return what the request loses through each adapter of the backend that would be asked."""
    backend, request = _backend(case), case.dispatch.request
    if backend is None:
        return None
    is_strict = case.dispatcher.is_strict(case.caller)
    told: dict[str, JSON] = {}
    for kind, adapter in backend.adapters.items():
        losses = case.dispatch.losses if adapter is case.dispatch.adapter else adapter.losses(request)
        told[kind] = _told(losses, is_strict) if request.operation in adapter.operations else None
    return told


def _backend(case: Case) -> Backend | None:
    """Return the backend that would be asked, or that would have been first where the request is refused."""
    if not case.is_allowed:
        return None
    return case.dispatch.backend or next(iter(case.in_line), None)


def _told(losses: Sequence[Loss], is_strict: bool) -> JSON:
    return [{"field": loss.field, "fate": _fate(loss, is_strict), "reason": loss.reason} for loss in losses]


def _fate(loss: Loss, is_strict: bool) -> str:
    if loss.is_note:
        return "noted"
    return "rejected" if loss.rejected or is_strict else "dropped"
