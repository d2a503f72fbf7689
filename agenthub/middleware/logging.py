"""One canonical line for each dispatch: the event ``agenthub.dispatch_finished`` with flat fields."""

from __future__ import annotations

import asyncio
import logging
import time
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
from agenthub.dialects import jsontext
from agenthub.log import timestamp
from agenthub.middleware import Dispatch, Handler, MiddlewareContext, Outcome, field_names
from agenthub.middleware.cache_entry import size_of
from agenthub.middleware.watching import watch
from agenthub.offload import is_large

_MAX_NAME, _MAX_ERROR = 256, 2048
_MAX_CONTENT_BYTES = 16 * 2**20
_MOST_VALUES = 10_000
_TOGETHER_S = 0.02
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


class LineLogger(structlog.BoundLoggerBase):
    """structlog's processors for a line that is complete as it comes: half the cost of keyword arguments."""

    def write(self, method: str, line: Any) -> None:
        """Pass a line, which it may change, through the processors to its end."""
        try:
            for processor in self._processors:
                line = processor(self._logger, method, line)
        except structlog.DropEvent:
            return
        self._logger.msg(line)


@attrs.define
class Logging:
    """Logs each dispatch when it ended; with ``content`` the prompt and the answer too.

    Lines are made together every few milliseconds: clients do not wait for theirs, and code that runs many times in a
    row takes a quarter of the time that it takes between other code. ``close`` writes what is left.
    """

    content: bool = False
    level: int = logging.INFO
    # Bound once: a lazy logger would be bound anew for each line.
    log: Any = attrs.field(factory=lambda: structlog.wrap_logger(None, wrapper_class=LineLogger).bind(), repr=False)
    _ended: list[tuple[int, Dispatch, Outcome, dict[str, Any]]] = attrs.field(factory=list, repr=False)
    _loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        if self.content:
            return self._with_content(dispatch, handler)
        return watch(dispatch, handler, self.finished)

    async def _with_content(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        events: list[Event] = []
        size_bytes = 0

        def finished(dispatch: Dispatch, outcome: Outcome) -> None:
            is_too_large = size_bytes > _MAX_CONTENT_BYTES
            content = {"content": "not shown: too large"} if is_too_large else _make_content(dispatch, events)
            self.finished(dispatch, outcome, **content)

        watched = watch(dispatch, handler, finished)
        try:
            async for batch in watched:
                size_bytes += size_of(batch)
                if size_bytes <= _MAX_CONTENT_BYTES:
                    events.extend(batch)
                yield batch
        finally:
            await watched.aclose()

    def finished(self, dispatch: Dispatch, outcome: Outcome, **content: Any) -> None:
        """Have the line written soon."""
        self._ended.append((time.time_ns(), dispatch, outcome, content))
        if len(self._ended) == 1:
            # A hub lives in one loop; to ask for the running one is a system call before Python 3.12.
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_later(_TOGETHER_S, self.close)

    def close(self) -> None:
        """Write the lines that were not yet written."""
        ended, self._ended = self._ended, []
        for ended_ns, dispatch, outcome, content in ended:
            method = "warning" if outcome.name == "failed" else "info"
            if self.level <= _LEVELS[method]:
                line = make_line(dispatch, outcome)
                if content:
                    line |= content
                line["timestamp"] = timestamp(ended_ns)
                self.log.write(method, line)


def _make_converter() -> Converter:
    """Return what turns requests and answers into JSON for the log, without the client's key and its raw bytes."""
    converter = Converter(omit_if_default=True)
    for kind in (ChatRequest, GenerateRequest, EmbedRequest, RelayRequest):
        hidden = override(omit=True)
        hook = make_dict_unstructure_fn(
            kind, converter, _cattrs_omit_if_default=True, authorization=hidden, source=hidden, content=hidden
        )
        converter.register_unstructure_hook(kind, hook)
    return converter


_CONVERTER = _make_converter()


def _make_content(dispatch: Dispatch, events: list[Event]) -> dict[str, Any]:
    source = dispatch.request.source
    # The line is made on the event loop. A few large texts, such as pictures, take no time.
    if source is not None and is_large(len(source.body)) and source.body.count(b",") > _MOST_VALUES:
        return {"content": "not shown: too large"}
    try:
        request, answer = _CONVERTER.unstructure(dispatch.request), _CONVERTER.unstructure(assemble(events))
        jsontext.dumps((request, answer))
    except Exception as error:  # nested too deep; no log is worth an answer
        return {"content": f"not shown: {type(error).__name__}"}
    return {"request": request, "answer": answer}


def make_logging(context: MiddlewareContext) -> Logging:
    """Return the middleware for the settings."""
    log = context.settings.log
    return Logging(log.content, logging.getLevelNamesMapping()[log.level.upper()])


def make_line(dispatch: Dispatch, outcome: Outcome) -> dict[str, Any]:
    """Return the fields. Times are seconds; token counts are missing where the upstream did not count."""
    caller = dispatch.caller
    fields: dict[str, Any] = {
        "event": "agenthub.dispatch_finished",
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
    if caller.enhanced:
        fields["enhanced"] = caller.enhanced
    if dispatch.enhancing:
        fields["enhancing"] = dispatch.enhancing
    if dispatch.losses:
        fields["dropped"] = field_names(dispatch.losses)
        if notes := [loss.reason for loss in dispatch.losses if loss.is_note]:
            fields["notes"] = notes
    if outcome.error:
        fields["error"] = outcome.error[:_MAX_ERROR]
    return fields
