"""The tables of settings: what one group holds, with default, rule and one line of help of each setting."""

from __future__ import annotations

from attrs import field, frozen

from agenthub.settings.kinds import Flag, Seconds, Text, Texts, Whole
from agenthub.settings.lists import Origins
from agenthub.settings.redis_url import RedisUrl
from agenthub.settings.secret import Secret, as_secret


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
