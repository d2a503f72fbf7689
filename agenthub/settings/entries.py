"""Entries: what one backend, model or client has of settings, each under a name of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import evolve, field, frozen

from agenthub.canonical import CAPABILITIES, FLAVOURS
from agenthub.operations import WORDS
from agenthub.settings.keys import BackendKeyText, KeyDigest, KeyFileName, KeyText, as_digest
from agenthub.settings.kinds import Flag, Seconds, Text, Texts, Url, Whole, without_slash
from agenthub.settings.lists import Words
from agenthub.settings.secret import Secret, as_secret, as_secrets
from agenthub.settings.tables import Headers, Options

EMPTY: Mapping[str, Any] = MappingProxyType({})


@frozen
class BackendSettings:
    """[backends.NAME]"""

    url: str = field(
        converter=without_slash,
        validator=Url("The server's root; the openai adapter adds /v1 unless the URL ends in it."),
    )
    api_mode: str = field(default="", validator=Text("The adapter that speaks to it; empty: the hub's own api_mode."))
    api_key: Secret = field(
        default=Secret(),
        converter=as_secret,
        validator=BackendKeyText("Sent as a bearer token; best kept in .env, not here."),
    )
    headers: Mapping[str, Secret] = field(
        default=EMPTY,
        converter=as_secrets,
        validator=Headers("More headers for every request to it; their values are secret."),
    )
    models: tuple[str, ...] = field(
        default=("*",), validator=Texts("Patterns of the model names that it serves, as in a shell.")
    )
    priority: int = field(default=0, validator=Whole("Of several that have a model, higher ones are asked first."))
    weight: int = field(default=1, validator=Whole("Its share of the requests where the strategy is weighted.", low=1))
    max_concurrency: int = field(
        default=0, validator=Whole("Most requests that it is asked at once; more wait in its queue. 0: no limit.")
    )
    queue_size: int = field(
        default=512, validator=Whole("Most requests that wait for it where max_concurrency is reached; more are 503.")
    )
    queue_timeout_s: float = field(
        default=60.0, validator=Seconds("Longest wait in its queue before the answer is 503; 0: no limit.")
    )
    connect_timeout_s: float = field(default=5.0, validator=Seconds("Longest wait for a connection; 0: no limit."))
    first_event_timeout_s: float = field(
        default=300.0,
        validator=Seconds(
            "Longest silence before the first event, loading the model included; 0: none, as for pull, push and create."
        ),
    )
    idle_timeout_s: float = field(
        default=60.0,
        validator=Seconds(
            "Longest silence after the first event, in which not a byte comes; 0: none, as for pull, push and create."
        ),
    )
    flavour: str = field(
        default="auto",
        validator=Text(
            "Whose OpenAI-compatible API it speaks: generic, ollama, openai, vllm, llamacpp, or auto: find out.",
            ("auto", *FLAVOURS),
        ),
    )
    forward_authorization: bool = field(
        default=False, validator=Flag("Pass the client's Authorization header on; off, so that it stays here.")
    )
    max_frame_bytes: int = field(
        default=16 * 2**20,
        validator=Whole("Largest single frame of a stream, against a runaway server; 0: no limit.", unit="bytes"),
    )
    max_answer_bytes: int = field(
        default=256 * 2**20,
        validator=Whole("Largest whole answer, embeddings included; 0: no limit.", unit="bytes"),
    )


@frozen
class ModelSettings:
    """[models."ALIAS"]"""

    target: str = field(
        default="",
        validator=Text("The model that the backend is asked for; empty: the one of this name, which is then no alias."),
    )
    backends: tuple[str, ...] = field(
        default=(), validator=Texts("The backends that may serve it; empty: any that has it.")
    )
    api_mode: str = field(default="", validator=Text("The adapter for this model; empty: its backend's."))
    options: Mapping[str, object] = field(
        default=EMPTY,
        validator=Options("Model options for requests that do not set them, as num_ctx."),
    )
    capabilities: tuple[str, ...] = field(
        default=(),
        validator=Words("What it can do, for editors and early refusals; empty: as its server says.", CAPABILITIES),
    )


def with_targets(models: Mapping[str, ModelSettings]) -> Mapping[str, ModelSettings]:
    """Return the settings of models where those that name no target have their own name for it."""
    if not isinstance(models, Mapping) or not any(
        isinstance(one, ModelSettings) and not one.target for one in models.values()
    ):
        return models
    return MappingProxyType({name: evolve(one, target=one.target or name) for name, one in models.items()})


@frozen
class ClientSettings:
    """[clients.NAME], where NAME is what the client sends as X-Client-Name, or whose key it shows"""

    api_mode: str = field(
        default="", validator=Text("The adapter for this client; empty: the model's or the backend's.")
    )
    strict: bool = field(default=False, validator=Flag("Answer 400 to this client instead of dropping a field."))
    api_key: KeyDigest = field(
        default=KeyDigest(),
        converter=as_digest,
        validator=KeyText("Its key, not empty; where any has one, all need one. Best kept in .env, or as sha256:HEX."),
    )
    api_key_file: str = field(
        default="", validator=KeyFileName("A file that holds its key, for secrets that are mounted.")
    )
    models: tuple[str, ...] = field(
        default=("*",), validator=Texts("Patterns of the model names that it may use, as in a shell.")
    )
    operations: tuple[str, ...] = field(
        default=(),
        validator=Words(
            "What it may do; empty: all but managing models, and that too where no client has a key.", WORDS
        ),
    )
    requests_per_minute: int = field(
        default=0, validator=Whole("Most requests in any minute; more are 429. 0: no limit.")
    )
    max_concurrency: int = field(
        default=0, validator=Whole("Most of its requests that run at once; more are 429. 0: no limit.")
    )
    auto_enhance: bool = field(
        default=False, validator=Flag("Put the prompts of its requests better by its rule, unless X-Enhance: false.")
    )
