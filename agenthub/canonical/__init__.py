"""The one vocabulary between all dialects and all adapters; imports nothing else of ours.

A dialect parses its bodies into requests and renders events; an adapter renders requests and parses events.
"""

from agenthub.canonical.events import (
    Answer,
    Batch,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
    assemble,
)
from agenthub.canonical.listing import ModelInfo
from agenthub.canonical.requests import (
    JSON,
    BaseRequest,
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
    Loss,
    Message,
    RelayRequest,
    Request,
    Source,
    TextRequest,
    ToolCall,
)

__all__ = [
    "JSON",
    "Answer",
    "BaseRequest",
    "Batch",
    "ChatRequest",
    "EmbedRequest",
    "Embeddings",
    "Event",
    "Finished",
    "GenerateRequest",
    "LogprobsDelta",
    "Loss",
    "Message",
    "ModelInfo",
    "RawFrames",
    "ReasoningDelta",
    "RelayRequest",
    "Request",
    "Source",
    "Started",
    "TextDelta",
    "TextRequest",
    "Timings",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "assemble",
]
