"""Every exception that AgentHub raises on purpose.

::

    AgentHubError
    ├── ConfigError                  the start stops, exit status 2
    │   └── PluginError              names the distribution and the entry point
    ├── RequestError                 the client's mistake; nothing was sent upstream
    │   ├── InvalidRequest      400
    │   ├── Unauthorized        401
    │   ├── Forbidden           403
    │   ├── UnknownModel        404
    │   ├── RequestTimeout      408  and the end of the connection
    │   ├── TooLarge            413
    │   ├── RateLimited         429  + Retry-After
    │   └── Unsupported         400  or 501 where the whole operation is missing
    └── DispatchError                the request was good
        ├── LoopDetected        508  the request has come back to the hub that sent it
        ├── Later               503  + Retry-After
        │   ├── BackendUnavailable   refused by the hub itself (breaker open, queue full)
        │   ├── HubStopping          broken off, for the hub ends
        │   └── HubBusy              the bodies of all requests take what memory they may
        ├── LeftBehind          503  the client reads a shared answer far too slowly
        └── UpstreamError       502  what the circuit breaker counts
            ├── UpstreamProtocol     the upstream broke its own wire format, or ended early
            │   └── UnreadableAnswer     it answered with JSON that is no answer of its API; not counted
            ├── UpstreamStatus       the upstream's own status and words
            │   └── UpstreamReport 500   a verb failed, as the upstream said in a line of its stream
            ├── KeyRefused           the upstream refused the hub's own key
            ├── ToolCallMissing      the model called no tool, though a strict client's tool_choice says it must
            └── UpstreamTimeout 504

``status`` is the HTTP status of the answer; ``agenthub.api.errors`` turns the rest into the asking dialect's body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

_LONGEST_TEXT, _TAIL = 4096, 256
_LONGEST_WORD = 256


def shortened(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Return ``text`` without its middle where it is too long for an answer or a log: errors quote what was sent.

    The end stays, since it often says what is wrong with what was quoted.
    """
    return text if len(text) <= longest else f"{text[: longest - _TAIL - 5]} ... {text[-_TAIL:]}"


class AgentHubError(Exception):
    """Base of all; ``str()`` is safe to show to the client, and no longer than 4096 characters."""

    status: int = 500

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ConfigError(AgentHubError):
    """The configuration cannot be used; the text names its source, the key path and what is allowed."""

    exit_status: ClassVar[int] = 2

    def __init__(self, message: str = "") -> None:
        Exception.__init__(self, message)  # read by the operator, whose own words it quotes


class PluginError(ConfigError):
    """An entry point cannot be used; the text names it and its distribution."""


class RequestError(AgentHubError):
    """The client asked for something that cannot be done; ``param`` is the field at fault, if it is one."""

    status = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = None if param is None else param[:_LONGEST_WORD]


class InvalidRequest(RequestError):
    """The body is not what the endpoint takes."""


class Unauthorized(RequestError):
    """No key, or not one of ours."""

    status = 401


class Forbidden(RequestError):
    """The client is known, or its page is, and may not do this."""

    status = 403


class UnknownModel(RequestError):
    """No backend has the model; ``model`` is the name as the client wrote it."""

    status = 404

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model}' not found", param="model")
        self.model = model


class RequestTimeout(RequestError):
    """The client fell silent in the middle of its request."""

    status = 408


class TooLarge(RequestError):
    """The body is larger than ``max_body_bytes``."""

    status = 413


class RateLimited(RequestError):
    """The client is over its limit; it may ask again in ``retry_after_s``."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unsupported(RequestError):
    """A field (400) or a whole operation (501) that the adapter's API has no place for."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400) -> None:
        super().__init__(message, param=param)
        self.status = status


class DispatchError(AgentHubError):
    """A good request that could not be answered.

    ``is_final`` tells the client that it need not ask again at once: the hub has done so itself, or would get the same.
    It says nothing about other backends: what may be sent to those is the middleware ``failover``'s to decide.
    """

    status = 502
    is_final: bool = False


class LoopDetected(DispatchError):
    """The request has come back to a hub that sent it, or through more than ``most``; ``hubs`` are the chain."""

    status = 508
    is_final = True

    def __init__(self, hubs: Sequence[str], most: int = 0) -> None:
        why = f"it has come through {most} hubs" if most else "it has come back to this hub"
        remedy = "point the backends of these hubs at model servers; `agenthub check` names the backend that leads back"
        super().__init__(f"this request goes in a circle: {why}: {' -> '.join(hubs)}: {remedy}")
        self.hubs = tuple(hubs)


class Later(DispatchError):
    """The hub itself cannot have it answered at the moment; it may be asked again in ``retry_after_s``."""

    status = 503

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(Later):
    """The hub itself refused to ask the backend; a probe may pass in ``retry_after_s``."""

    is_final = True


class HubStopping(Later):
    """The hub ends before the answer is whole; another process, or the next, may be asked."""

    def __init__(self, message: str = "the hub is stopping") -> None:
        super().__init__(message)


class HubBusy(Later):
    """There is no memory for the body of the request at the moment."""


class LeftBehind(DispatchError):
    """The client is so far behind others who read the same answer that the rest is not held for it any longer."""

    status = 503


class UpstreamError(DispatchError):
    """The upstream could not be reached or failed; counts against its circuit breaker when ``counted``.

    ``broke_off`` says that the request was sent and that the upstream, or the process behind it, ended before an answer
    was there: the request itself may be the reason. ``is_stale`` says besides that this was on a connection that had
    served before, and that nothing of an answer had come: maybe it was closed for being idle, and the request never
    read. The same backend may be asked again, and the breaker waits for what comes of that.
    """

    counted: bool = True
    broke_off: bool = False
    is_stale: bool = False


class UpstreamTimeout(UpstreamError):
    """The upstream kept silent for longer than the backend's settings allow."""

    status = 504


class UpstreamProtocol(UpstreamError):
    """The upstream sent bytes that its API does not allow, or ended a stream without its end mark."""


class UnreadableAnswer(UpstreamProtocol):
    """The upstream answered with a JSON object, in which something that an answer needs is missing or of a wrong type.

    Not counted: the server is up and does its work, and only the hub cannot read what it says. Another backend may be
    asked, since its server may say it otherwise.
    """

    counted = False


class UpstreamStatus(UpstreamError):
    """The upstream answered with an error of its own.

    ``headers`` are those that a client may see again (Retry-After, rate limits). Only statuses from 500 on count
    against the breaker, but not 501, with which a healthy server says what it lacks, and not when the caller's own
    words were at fault (``callers_fault``): Ollama answers 500 to a wrong option type. ``kind``, ``code`` and
    ``param`` are OpenAI's members of an error object, where the upstream gave them; ``fields`` are members of Ollama's
    that its clients use.

    A 508 (``is_loop``) says that the request goes in a circle. It is neither repeated nor sent to another backend: in a
    mesh of hubs each of them would try all the others, on every way that there is.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, object] | None = None,
        callers_fault: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind[:_LONGEST_WORD]
        self.code = None if code is None else code[:_LONGEST_WORD]
        self.param = None if param is None else param[:_LONGEST_WORD]
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})
        self.callers_fault = callers_fault
        self.is_loop = status == HTTPStatus.LOOP_DETECTED
        self.counted = status >= 500 and not (status == HTTPStatus.NOT_IMPLEMENTED or callers_fault or self.is_loop)
        self.is_final = status == HTTPStatus.NOT_IMPLEMENTED or self.is_loop


class KeyRefused(UpstreamError):
    """The upstream answered 401 or 403 (``upstream_status``) to the hub's own key, which the client's has no part in.

    Not counted: it stays so until the settings are corrected, and the reason says more than an open breaker.
    """

    counted = False
    is_final = True

    def __init__(self, message: str, upstream_status: int) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status


class ToolCallMissing(UpstreamError):
    """The model called no tool that ``tool_choice`` of a strict client says it must; the backend is not to blame."""

    counted = False
    is_final = True


class UpstreamReport(UpstreamStatus):
    """A management verb failed, and the upstream said so in a line of its stream, which clients of a stream have seen.

    Not counted: a model that the registry lacks is no fault of the backend.
    """

    def __init__(self, message: str) -> None:
        super().__init__(500, message, callers_fault=True)
