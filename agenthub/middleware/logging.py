"""One canonical line for each dispatch: the event ``agenthub.dispatch_finished`` with flat fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import structlog
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from agenthub.canonical import (
    Batch,
    ChatRequest,
    EmbedRequest,
    Event,
    GenerateRequest,
    RelayRequest,
    assemble,
)
from agenthub.middleware import Dispatch, Handler, MiddlewareContext, Outcome, field_names
from agenthub.middleware.watching import watch

_MAX_NAME = 256


@attrs.define
class Logging:
    """Logs each dispatch when it ended; with ``content`` the prompt and the answer too.

    The lines of one turn of the event loop are made together at its end: clients do not wait for their line, and code
    that runs many times in a row runs in half the time.
    """

    content: bool = False
    # Bound once: a lazy logger would be bound anew for each line.
    log: Any = attrs.field(factory=lambda: structlog.get_logger("agenthub").bind(), repr=False)
    _ended: list[tuple[Dispatch, Outcome, dict[str, Any]]] = attrs.field(factory=list, repr=False)

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        if self.content:
            return self._with_content(dispatch, handler)
        return watch(dispatch, handler, self.finished)

    async def _with_content(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        events: list[Event] = []

        def finished(dispatch: Dispatch, outcome: Outcome) -> None:
            content = {"request": _CONVERTER.unstructure(dispatch.request), "answer": _unstructured(events)}
            self.finished(dispatch, outcome, **content)

        watched = watch(dispatch, handler, finished)
        try:
            async for batch in watched:
                events.extend(batch)
                yield batch
        finally:
            await watched.aclose()

    def finished(self, dispatch: Dispatch, outcome: Outcome, **content: Any) -> None:
        """Have the line written."""
        self._ended.append((dispatch, outcome, content))
        if len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        ended, self._ended = self._ended, []
        for dispatch, outcome, content in ended:
            write = self.log.warning if outcome.name == "failed" else self.log.info
            write("agenthub.dispatch_finished", **make_line(dispatch, outcome), **content)


def _make_converter() -> Converter:
    """Return what turns requests and answers into JSON for the log, without the client's key and its raw bytes."""
    converter = Converter(omit_if_default=True)
    for kind in (ChatRequest, GenerateRequest, EmbedRequest, RelayRequest):
        hidden = override(omit=True)
        hook = make_dict_unstructure_fn(
            kind, converter, _cattrs_omit_if_default=True, authorization=hidden, source=hidden
        )
        converter.register_unstructure_hook(kind, hook)
    return converter


_CONVERTER = _make_converter()


def _unstructured(events: list[Event]) -> Any:
    return _CONVERTER.unstructure(assemble(events))


def make_logging(context: MiddlewareContext) -> Logging:
    """Return the middleware for the settings."""
    return Logging(context.settings.log.content)


def make_line(dispatch: Dispatch, outcome: Outcome) -> dict[str, Any]:
    """Return the fields. Times are seconds; token counts are missing where the upstream did not count."""
    caller = dispatch.caller
    fields: dict[str, Any] = {
        "request_id": caller.request_id,
        "client": caller.client,
        "dialect": caller.dialect,
        "operation": dispatch.request.operation,
        "model": dispatch.request.model[:_MAX_NAME],
        "upstream_model": dispatch.upstream_model[:_MAX_NAME],
        "backend": dispatch.backend.name if dispatch.backend is not None else "",
        "api_mode": dispatch.api_mode,
        "stream": dispatch.request.stream,
        "cache": dispatch.cache,
        "outcome": outcome.name,
        "status": outcome.status,
        "total_s": round(outcome.total_s, 6),
        "bytes": dispatch.bytes_sent,
    }
    if dispatch.first_event_at is not None:
        fields["first_event_s"] = round(dispatch.first_event_at - dispatch.started_at, 6)
    if (usage := dispatch.usage) is not None:
        fields |= {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
    if dispatch.losses:
        fields["dropped"] = field_names(dispatch.losses)
    if outcome.error:
        fields["error"] = outcome.error
    return fields
