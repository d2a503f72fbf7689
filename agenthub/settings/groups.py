"""The tables of settings: what one group holds, with default, rule and one line of help of each setting."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import evolve, field, frozen

from agenthub.canonical import FLAVOURS
from agenthub.operations import WORDS
from agenthub.settings.keys import BackendKeyText, KeyDigest, KeyFileName, KeyText, as_digest
from agenthub.settings.kinds import Flag, Seconds, Text, Texts, Url, Whole, without_slash
from agenthub.settings.lists import Origins, Words
from agenthub.settings.redis_url import RedisUrl
from agenthub.settings.secret import Secret, as_secret, as_secrets
from agenthub.settings.tables import Headers, Options

EMPTY: Mapping[str, Any] = MappingProxyType({})


@frozen
class LogSettings:
    """[log]"""

    level: str = field(
        default="info",
        validator=Text(
            "The least serious level that is logged: debug, info, warning or error.",
            ("debug", "info", "warning", "error"),
        ),
    )
    format: str = field(
        default="auto",
        validator=Text(
            "How lines look: auto is console on a terminal and json elsewhere.", ("auto", "json", "console")
        ),
    )
    content: bool = field(default=False, validator=Flag("Log prompts and answers too; off, since they are private."))
    buffer_bytes: int = field(
        default=4 * 2**20,
        validator=Whole(
            "Memory for lines that nobody takes yet; more are dropped and counted. 0: no limit.", unit="bytes"
        ),
    )


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
        default="generic",
        validator=Text("Whose OpenAI-compatible API it speaks: generic, ollama, openai, vllm or llamacpp.", FLAVOURS),
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


@frozen
class BalancingSettings:
    """[balancing]: which of several backends that have a model is asked"""

    strategy: str = field(
        default="priority",
        validator=Text(
            "priority, least_busy (fewest requests running), weighted, or sticky (a conversation stays where it is).",
            ("priority", "least_busy", "weighted", "sticky"),
        ),
    )
    prefer_loaded: bool = field(
        default=True, validator=Flag("Prefer backends of equal standing that hold the model in memory already.")
    )


@frozen
class RetrySettings:
    """[retries]: before the first event of an answer; after it never"""

    attempts: int = field(
        default=2,
        validator=Whole(
            "How often a request is sent in all: to the next backend that has the model, or to the same one; 1: once.",
            low=1,
        ),
    )
    budget_s: float = field(
        default=10.0, validator=Seconds("How long after its first failure a request may still be sent again.")
    )


@frozen
class CorsSettings:
    """[cors]"""

    origins: tuple[str, ...] = field(
        default=(),
        validator=Origins(
            'Web pages that may call, as "https://chat.example.com", beside those of this machine; "*": any.'
        ),
    )


@frozen
class ProtectionSettings:
    """[protection]: against clients that send without end, or next to nothing"""

    max_header_bytes: int = field(
        default=16 * 2**10,
        validator=Whole("Largest header of a request, and largest request line.", low=1024, unit="bytes"),
    )
    header_timeout_s: float = field(
        default=10.0, validator=Seconds("How long a client may take to send the head of a request; 0: no limit.")
    )
    body_timeout_s: float = field(
        default=30.0, validator=Seconds("Longest silence while the body of a request comes in; 0: no limit.")
    )
    max_bodies_bytes: int = field(
        default=256 * 2**20,
        validator=Whole("Memory for all bodies, unpacked, until their answers begin; 0: no limit.", unit="bytes"),
    )
    bodies_timeout_s: float = field(
        default=10.0, validator=Seconds("Longest wait of a body for that memory before it is 503; 0: no limit.")
    )


@frozen
class HealthSettings:
    """[health]"""

    interval_s: float = field(
        default=10.0, validator=Seconds("How often each backend is asked whether it is up; 0: never.")
    )
    models_refresh_s: float = field(
        default=30.0, validator=Seconds("How often each backend is asked for its models; 0: only at the start.")
    )
    ping_timeout_s: float = field(
        default=5.0, validator=Seconds("How long a backend may take to show that it is up; 0: no limit.")
    )


@frozen
class CachingSettings:
    """[caching]"""

    policy: str = field(
        default="deterministic",
        validator=Text(
            "Which answers are kept: deterministic only those that must repeat, all every finished one, off none.",
            ("deterministic", "all", "off"),
        ),
    )
    ttl_s: float = field(default=3600.0, validator=Seconds("How long an answer is kept; 0: until it must make room."))
    max_bytes: int = field(default=64 * 2**20, validator=Whole("Memory for kept answers; 0: no limit.", unit="bytes"))
    replay: str = field(
        default="at_once",
        validator=Text(
            "How a kept answer is streamed again: at_once, or at the pace in which it was recorded.",
            ("at_once", "recorded"),
        ),
    )
    backend: str = field(
        default="memory",
        validator=Text(
            "Where answers are kept: memory, or redis, which shares them, the breakers and the clients' limits.",
            ("memory", "redis"),
        ),
    )
    url: Secret = field(
        default=Secret(),
        converter=as_secret,
        validator=RedisUrl("The Redis or Valkey server: redis://user:password@host:6379/0, rediss:// for TLS."),
    )


@frozen
class CircuitBreakerSettings:
    """[circuit_breaker]; to do without, take it out of ``middleware``"""

    failure_threshold: int = field(
        default=3, validator=Whole("Failures in a row that open a backend's breaker.", low=1)
    )
    open_for_s: float = field(
        default=30.0, validator=Seconds("How long an open breaker refuses before it lets a probe by.")
    )
    half_open_probes: int = field(default=1, validator=Whole("Requests let by at once to probe the backend.", low=1))


@frozen
class PluginsSettings:
    """[plugins]"""

    disabled: tuple[str, ...] = field(default=(), validator=Texts("Entry points that are not loaded."))
    on_error: str = field(
        default="stop",
        validator=Text("When a plugin cannot be loaded: stop the start, or skip it and log that.", ("stop", "skip")),
    )
