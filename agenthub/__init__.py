"""AgentHub: one gateway in front of every model server you run. This is a plugin author's whole vocabulary."""

from __future__ import annotations

import agenthub.signal_hold

# isort: split
import agenthub.lean_imports  # noqa: F401 - before anything imports the libraries that it names

# isort: split
import pluggy

from agenthub.adapter import Adapter, AdapterType
from agenthub.canonical import (
    JSON,
    Answer,
    BaseRequest,
    Batch,
    ChatRequest,
    ChoiceStarted,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    Loss,
    Message,
    ModelInfo,
    RawFrames,
    ReasoningDelta,
    RefusalDelta,
    RelayRequest,
    Request,
    Source,
    Started,
    TextDelta,
    TextRequest,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
    assemble,
)
from agenthub.enhancement.rules import Rule
from agenthub.errors import (
    AgentHubError,
    BackendUnavailable,
    ConfigError,
    DispatchError,
    InvalidRequest,
    PluginError,
    RateLimited,
    RequestError,
    RequestTimeout,
    TooLarge,
    ToolCallMissing,
    Unauthorized,
    UnknownModel,
    UnreadableAnswer,
    Unsupported,
    UpstreamError,
    UpstreamProtocol,
    UpstreamReport,
    UpstreamStatus,
    UpstreamTimeout,
)
from agenthub.middleware import Backend, Dispatch, Handler, Middleware, MiddlewareContext, MiddlewareType, Outcome
from agenthub.settings import BackendSettings, Settings
from agenthub.upstream import HttpUpstream
from agenthub.upstream.again import ask_again, reword

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("agenthub")
"""Marks a function of a plugin as an implementation of one of the hooks in ``agenthub.hookspecs``."""

__all__ = [
    "JSON",
    "Adapter",
    "AdapterType",
    "AgentHubError",
    "Answer",
    "Backend",
    "BackendSettings",
    "BackendUnavailable",
    "BaseRequest",
    "Batch",
    "ChatRequest",
    "ChoiceStarted",
    "ConfigError",
    "Dispatch",
    "DispatchError",
    "EmbedRequest",
    "Embeddings",
    "Event",
    "Finished",
    "GenerateRequest",
    "Handler",
    "HttpUpstream",
    "InvalidRequest",
    "LogprobsDelta",
    "Loss",
    "Message",
    "Middleware",
    "MiddlewareContext",
    "MiddlewareType",
    "ModelInfo",
    "Outcome",
    "PluginError",
    "RateLimited",
    "RawFrames",
    "ReasoningDelta",
    "RefusalDelta",
    "RelayRequest",
    "Request",
    "RequestError",
    "RequestTimeout",
    "Rule",
    "Settings",
    "Source",
    "Started",
    "TextDelta",
    "TextRequest",
    "Timings",
    "TooLarge",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallMissing",
    "Unauthorized",
    "UnknownModel",
    "UnreadableAnswer",
    "Unsupported",
    "UpstreamError",
    "UpstreamProtocol",
    "UpstreamReport",
    "UpstreamStatus",
    "UpstreamTimeout",
    "Usage",
    "ask_again",
    "assemble",
    "hookimpl",
    "reword",
]
