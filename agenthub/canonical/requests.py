"""Frozen requests: what a client asks for, whatever dialect it speaks.

Names of sampling options are Ollama's (``num_predict``, ``num_ctx``), the larger of the two vocabularies.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Any, TypeAlias

import attrs

from agenthub.canonical.sealed import sealed

JSON: TypeAlias = Any
"""What ``json.loads`` may return."""


FLAVOURS = ("generic", "ollama", "openai", "vllm", "llamacpp")
"""Whose OpenAI-compatible API an upstream speaks: they differ in names of sampling fields, and in what they refuse."""


@attrs.frozen
class Loss:
    """A field that the other side cannot carry.

    ``rejected`` losses would make the answer wrong, so the request is refused; the others are dropped and noted. What
    ``is_note`` was only judged by its looks: it is noted, and nobody is refused for it, however strict.
    """

    field: str
    rejected: bool = False
    reason: str = ""
    is_note: bool = False


@attrs.frozen
class Source:
    """The client's own bytes, which an adapter of the same dialect sends on as they are."""

    dialect: str
    path: str
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class ToolCall:
    """A call as it stands in the history; ``arguments`` is the JSON text of an object, in its own spelling."""

    name: str
    arguments: str = "{}"
    id: str = ""


@sealed
class Message:
    """One turn. ``images`` are plain base64, without ``data:``; ``reasoning`` is what the model thought aloud.

    ``images_first`` says that OpenAI's client put them before the text, which matters where its own words are sent on.
    """

    role: str
    content: str = ""
    images: tuple[str, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    images_first: bool = False


@sealed(kw_only=True)
class BaseRequest:
    """What every request carries.

    ``extras`` are the fields of the client's body that the canonical request has no name for, under their own names.
    ``unmapped`` are the losses found in parsing: they count as soon as the request leaves its own dialect.
    ``upstream_model`` is the upstream's name where an alias was used, else empty; ``defaults`` are the options that the
    alias added to ``options``. ``authorization`` is the client's header, where a backend is to see it.
    ``strict`` refuses what would be lost, where only the asking shows it too.
    With ``sidecar`` the answer shall carry, in a field of its own, what the client's dialect has no place for.
    """

    model: str
    upstream_model: str = ""
    stream: bool = False
    options: Mapping[str, JSON] = attrs.field(factory=dict)
    keep_alive: JSON = None
    extras: Mapping[str, JSON] = attrs.field(factory=dict)
    unmapped: tuple[Loss, ...] = ()
    defaults: Mapping[str, JSON] = attrs.field(factory=dict, eq=False)
    strict: bool = attrs.field(default=False, eq=False)
    sidecar: bool = attrs.field(default=False, eq=False)
    authorization: str = attrs.field(default="", eq=False, repr=False)
    source: Source | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def operation(self) -> str:
        """chat, generate, embed or a management verb."""
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        """What the client's body takes."""
        return 0 if self.source is None else len(self.source.body)

    @property
    def target(self) -> str:
        """The upstream's name of the model."""
        return self.upstream_model or self.model

    @property
    def loads_only(self) -> bool:
        """True when Ollama would only load or unload the model: there is nothing to answer."""
        return False

    @property
    def wants_stream(self) -> bool:
        """True when the answer is to be streamed. A load is one object to Ollama's clients, whatever they ask for."""
        return self.stream and not (self.loads_only and (self.source is None or self.source.dialect == "ollama"))

    @property
    def wants_usage(self) -> bool:
        """False only for a client that would not be shown token counts."""
        return True


@sealed(kw_only=True)
class TextRequest(BaseRequest):
    """What chat and generate have in common.

    ``format`` is None, ``"json"`` or a JSON schema; ``think`` is None when unset, a bool or a level;
    ``include_usage`` is OpenAI's ``stream_options.include_usage``; ``choices`` is how many answers are wanted.
    """

    format: JSON = None
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    include_usage: bool = True
    choices: int = 1

    @property
    def wants_usage(self) -> bool:
        return not self.stream or self.include_usage


@sealed(kw_only=True)
class ChatRequest(TextRequest):
    """A conversation. ``tools`` are the raw definitions; ``tool_choice`` is OpenAI's, None when unset.

    ``one_call`` is OpenAI's ``parallel_tool_calls: false``; ``functions`` means that the client speaks of functions and
    ``function_call`` where today's words are tools and ``tool_calls``, and is answered in its words.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[JSON, ...] = ()
    tool_choice: JSON = None
    one_call: bool = False
    functions: bool = False

    @property
    def operation(self) -> str:
        return "chat"

    @property
    def loads_only(self) -> bool:
        return not self.messages


@sealed(kw_only=True)
class GenerateRequest(TextRequest):
    """A prompt; ``more_prompts`` get answers of their own. ``raw`` means that no template is applied."""

    prompt: str = ""
    more_prompts: tuple[str, ...] = ()
    system: str | None = None
    suffix: str = ""
    template: str | None = None
    context: tuple[int, ...] = ()
    raw: bool = False
    images: tuple[str, ...] = ()

    @property
    def operation(self) -> str:
        return "generate"

    @property
    def loads_only(self) -> bool:
        return not self.prompt and not self.images and not self.more_prompts


@sealed(kw_only=True)
class EmbedRequest(BaseRequest):
    """Texts to embed. ``normalised`` is False for Ollama's legacy endpoint; ``encoding`` is ``float`` or ``base64``."""

    inputs: tuple[str, ...] = ()
    dimensions: int | None = None
    truncate: bool | None = None
    normalised: bool = True
    encoding: str = "float"

    @property
    def operation(self) -> str:
        return "embed"

    @property
    def loads_only(self) -> bool:
        return not self.inputs

    @property
    def wants_usage(self) -> bool:
        return self.normalised


@sealed(kw_only=True)
class RelayRequest(BaseRequest):
    """A management verb that only some upstreams have: show, ps, pull, push, create, copy, delete, blobs.

    ``model`` is the one that must be there already: what is copied, or what another is created from. ``arguments`` is
    the rest of the parsed body, for blobs the ``digest``. ``content`` is what is uploaded, to be read once, and
    ``length`` its size in bytes where the client told it; without content blobs only asks whether the blob is there.
    ``capabilities`` are those that a setting gives the model, for what it shows of itself.
    """

    verb: str
    arguments: Mapping[str, JSON] = attrs.field(factory=dict)
    content: AsyncIterable[bytes] | None = attrs.field(default=None, eq=False, repr=False)
    length: int | None = attrs.field(default=None, eq=False)
    capabilities: tuple[str, ...] = attrs.field(default=(), eq=False)

    @property
    def operation(self) -> str:
        return self.verb


Request: TypeAlias = ChatRequest | GenerateRequest | EmbedRequest | RelayRequest
