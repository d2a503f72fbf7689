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
        ├── BackendUnavailable  503  + Retry-After; refused by the hub itself (breaker open, queue full)
        ├── HubStopping         503  + Retry-After; broken off, for the hub ends
        ├── LeftBehind          503  the client reads a shared answer far too slowly
        └── UpstreamError       502  what the circuit breaker counts
            ├── UpstreamProtocol     the upstream broke its own wire format, or ended early
            ├── UpstreamStatus       the upstream's own status and words
            │   └── UpstreamReport 500   a verb failed, as the upstream said in a line of its stream
            ├── ToolCallMissing      the model called no tool, though a strict client's tool_choice says it must
            └── UpstreamTimeout 504

``status`` is the HTTP status of the answer; ``agenthub.api.errors`` turns the rest into the asking dialect's body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AgentHubError(Exception):
    """Base of all; ``str()`` is safe to show to the client."""

    status: int = 500


class ConfigError(AgentHubError):
    """The configuration cannot be used; the text names its source, the key path and what is allowed."""

    exit_status: ClassVar[int] = 2


class PluginError(ConfigError):
    """An entry point cannot be used; the text names it and its distribution."""


class RequestError(AgentHubError):
    """The client asked for something that cannot be done; ``param`` is the field at fault, if it is one."""

    status = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


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

    ``is_final`` says that it is no use to ask again at once: the hub has done so itself, or would get the same.
    """

    status = 502
    is_final: bool = False


class BackendUnavailable(DispatchError):
    """The hub itself refused to ask the backend; a probe may pass in ``retry_after_s``."""

    status = 503
    is_final = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HubStopping(DispatchError):
    """The hub ends before the answer is whole; another process, or the next, may be asked in ``retry_after_s``."""

    status = 503

    def __init__(self, message: str = "the hub is stopping", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LeftBehind(DispatchError):
    """The client is so far behind others who read the same answer that the rest is not held for it any longer."""

    status = 503


class UpstreamError(DispatchError):
    """The upstream could not be reached or failed; counts against its circuit breaker when ``counted``."""

    counted: bool = True


class UpstreamTimeout(UpstreamError):
    """The upstream kept silent for longer than the backend's settings allow."""

    status = 504


class UpstreamProtocol(UpstreamError):
    """The upstream sent bytes that its API does not allow, or ended a stream without its end mark."""


class UpstreamStatus(UpstreamError):
    """The upstream answered with an error of its own.

    ``headers`` are those that a client may see again (Retry-After, rate limits). Only statuses from 500 on count
    against the breaker, and not even those when the caller's own words were at fault (``callers_fault``): Ollama
    answers 500 to a wrong option type. ``kind``, ``code`` and ``param`` are OpenAI's members of an error object, where
    the upstream gave them; ``fields`` are members of Ollama's that its clients use.
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
        self.kind, self.code, self.param = kind, code, param
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})
        self.callers_fault = callers_fault
        self.counted = status >= 500 and not callers_fault


class ToolCallMissing(UpstreamError):
    """The model called no tool, though ``tool_choice`` of a strict client says it must; the backend is not to blame."""

    counted = False
    is_final = True


class UpstreamReport(UpstreamStatus):
    """A management verb failed, and the upstream said so in a line of its stream, which clients of a stream have seen.

    Not counted: a model that the registry lacks is no fault of the backend.
    """

    def __init__(self, message: str) -> None:
        super().__init__(500, message, callers_fault=True)
