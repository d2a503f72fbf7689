"""Explains what the hub would do with a request, without asking any model: by the functions that a dispatch goes by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agenthub.canonical import JSON
from agenthub.explaining.case import Case, make_case
from agenthub.explaining.keeping import explain_cache
from agenthub.explaining.lines import explain_candidates, explain_model
from agenthub.explaining.sendings import explain_upstream, tell_sendings
from agenthub.explaining.ways import explain_api_mode, explain_losses

__all__ = ["SECTIONS", "Case", "make_case", "tell_case", "tell_sendings"]

SECTIONS: Mapping[str, Callable[[Case], JSON]] = {
    "model": explain_model,
    "candidates": explain_candidates,
    "api_mode": explain_api_mode,
    "losses": explain_losses,
    "cache": explain_cache,
    "upstream": explain_upstream,
}
"""What is said of a request that is dispatched, in this order; a section is None where there is nothing to say."""


def tell_case(case: Case) -> dict[str, JSON]:
    """Return every section."""
    return {name: explain(case) for name, explain in SECTIONS.items()}
