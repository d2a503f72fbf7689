"""What is said of one route."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.api.openapi.schema import Schema


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one path: what it takes, what it answers, how it fails.

    ``answers`` are the good answers by status; one without content is described all the same. ``takes`` is the body,
    ``example`` one that works where its model does. ``asks`` marks what goes through the dispatcher: it takes the hub's
    request headers, answers with its response headers and fails as an upstream can. ``fails`` are further statuses of
    errors in the dialect's shape. ``hears`` are further
    headers of requests, ``tells`` of answers. One that ``is_open`` answers whoever asks, without a key.
    """

    id: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    about: str = ""
    takes: Schema | None = None
    takes_type: str = "application/json"
    example: Schema | None = None
    path: Mapping[str, Schema] = attrs.field(factory=dict)
    asks: bool = False
    fails: tuple[int, ...] = ()
    hears: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    is_open: bool = False


@attrs.frozen
class Answer:
    """A good answer: the schema of its body by content type; of a stream, the schema of each frame."""

    about: str
    content: Mapping[str, Schema] = attrs.field(factory=dict)


def whole(schema: Schema, about: str = "The answer.") -> dict[int, Answer]:
    """One JSON value with status 200."""
    return {200: Answer(about, {"application/json": schema})}
