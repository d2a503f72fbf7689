"""The hooks that a plugin may implement. All are synchronous; implement them with ``agenthub.hookimpl``."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence

import pluggy

from agenthub.adapter import AdapterType
from agenthub.canonical import Request
from agenthub.enhancement.rules import Rule
from agenthub.middleware import Backend, Dispatch, MiddlewareType, Outcome

hookspec = pluggy.HookspecMarker("agenthub")


@hookspec
def agenthub_register_adapters() -> Iterable[AdapterType]:  # type: ignore[empty-body]
    """Return the adapters that this plugin brings; each kind equals the name of the plugin's entry point.

    Called once, at start-up. If it raises, the hub does not start.
    """


@hookspec
def agenthub_register_middleware() -> Iterable[MiddlewareType]:  # type: ignore[empty-body]
    """Return the middleware that this plugin brings; the setting ``middleware`` says which are used and in which order.

    Called once, at start-up. If it raises, the hub does not start.
    """


@hookspec(firstresult=True)
def agenthub_select_backend(request: Request, candidates: Sequence[Backend]) -> Backend | None:
    """Return one of ``candidates`` for ``request``, or None to leave the choice to the next plugin.

    Called at each dispatch with at least one candidate, best first, and where one is only explained; no I/O. If it
    raises, that dispatch is a 500. For a request of more than 256 kB it is called in a thread.
    """


@hookspec(firstresult=True)
def agenthub_enhance_prompt(prompt: str, rule: Rule, client: str) -> str | Awaitable[str] | None:
    """Return the prompt of ``client`` put better, or what can be awaited for it; None leaves it to the next plugin.

    Called for each prompt that ``rule`` does not skip, before any model is asked; if all return None, the rule's models
    are. No I/O in here: what takes time is awaited, for no longer than the rule's ``timeout_s``. The same text says
    that there is nothing to put better. If it raises, or gives no text, that is logged and the prompt stays as it is.
    What it gives is not cached.
    """


@hookspec
def agenthub_dispatch_started(dispatch: Dispatch) -> None:
    """A dispatch begins. If it raises, that is logged and the others still run."""


@hookspec
def agenthub_dispatch_finished(dispatch: Dispatch, outcome: Outcome) -> None:
    """A dispatch ended, in whatever way; called exactly once for each. If it raises, that is logged."""


@hookspec
def agenthub_breaker_changed(backend: str, old: str, new: str) -> None:
    """The circuit breaker of ``backend`` went from ``old`` to ``new``: closed, open or half_open.

    If it raises, that is logged.
    """
