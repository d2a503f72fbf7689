"""Every setting of the hub, frozen, with its default, its rule and one line of help; ``load`` reads them.

The classes are the one table that the loader, its error texts, :func:`describe` and the checks of
``config/agenthub.toml`` go by. Durations are seconds, sizes bytes; 0 switches a limit or a background task off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import attrs
from attrs import field, frozen

from agenthub.settings.kinds import Flag, Seconds, Text, Texts, Url, Whole, Wrong, either, show, without_slash
from agenthub.settings.secret import Secret as Secret
from agenthub.settings.secret import SecretText, as_secret, as_secrets
from agenthub.settings.sources import Layers, add_sources, dotted
from agenthub.settings.tables import Headers, Options, Table, Tables

_EMPTY: Mapping[str, Any] = MappingProxyType({})


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
        validator=SecretText("Sent as a bearer token; best kept in .env, not here."),
    )
    headers: Mapping[str, Secret] = field(
        default=_EMPTY,
        converter=as_secrets,
        validator=Headers("More headers for every request to it; their values are secret."),
    )
    models: tuple[str, ...] = field(
        default=("*",), validator=Texts("Patterns of the model names that it serves, as in a shell.")
    )
    connect_timeout_s: float = field(default=5.0, validator=Seconds("Longest wait for a connection; 0: no limit."))
    first_event_timeout_s: float = field(
        default=300.0,
        validator=Seconds(
            "Longest wait for the first event, loading the model included; 0: none, as for pull, push and create."
        ),
    )
    idle_timeout_s: float = field(
        default=60.0,
        validator=Seconds("Longest silence between two events of a stream; 0: none, as for pull, push and create."),
    )
    forward_authorization: bool = field(
        default=False, validator=Flag("Pass the client's Authorization header on; off, so that it stays here.")
    )
    max_frame_bytes: int = field(
        default=16 * 2**20,
        validator=Whole("Largest single frame of a stream, against a runaway server; 0: no limit.", unit="bytes"),
    )


@frozen
class ModelSettings:
    """[models."ALIAS"]"""

    target: str = field(
        validator=Text("The model that the backend is asked for when a client asks for the alias.", filled=True)
    )
    backends: tuple[str, ...] = field(
        default=(), validator=Texts("The backends that may serve it; empty: any that has it.")
    )
    api_mode: str = field(default="", validator=Text("The adapter for this model; empty: its backend's."))
    options: Mapping[str, object] = field(
        default=_EMPTY,
        validator=Options("Model options for requests that do not set them, as num_ctx."),
    )


@frozen
class ClientSettings:
    """[clients.NAME], where NAME is what the client sends as X-Client-Name"""

    api_mode: str = field(
        default="", validator=Text("The adapter for this client; empty: the model's or the backend's.")
    )
    strict: bool = field(default=False, validator=Flag("Answer 400 to this client instead of dropping a field."))


@frozen
class HealthSettings:
    """[health]"""

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


@frozen
class Settings:
    """The whole configuration; ``sources`` says where each value that is not a default came from, by its key path."""

    host: str = field(
        default="127.0.0.1", validator=Text("Address to listen on; 0.0.0.0 also takes other machines.", filled=True)
    )
    port: int = field(default=9090, validator=Whole("Port to listen on; 0: any free one.", high=65535))
    api_mode: str = field(
        default="native",
        validator=Text(
            "The adapter unless something nearer says so: native, openai or another that is installed.", filled=True
        ),
    )
    middleware: tuple[str, ...] = field(
        default=("logging", "caching", "circuit_breaker"),
        validator=Texts("What stands around each dispatch, outermost first."),
    )
    default_backend: str = field(
        default="",
        validator=Text("Where a model goes that no backend lists; empty: the only backend, if there is one."),
    )
    strict: bool = field(
        default=False, validator=Flag("Answer 400 instead of dropping a field that has no place upstream.")
    )
    max_body_bytes: int = field(
        default=100 * 2**20,
        validator=Whole(
            "Largest request body, images included; uploads of blobs have no limit. 0: none.", unit="bytes"
        ),
    )
    drain_s: float = field(
        default=30.0, validator=Seconds("How long running requests may take to finish at a stop; 0: not at all.")
    )
    log: LogSettings = field(factory=LogSettings, validator=Table(LogSettings))
    backends: Mapping[str, BackendSettings] = field(
        default=_EMPTY,
        validator=Tables(Table(BackendSettings), names=r"[A-Za-z0-9_.-]+", spelled='letters, digits, "_", "." and "-"'),
    )
    models: Mapping[str, ModelSettings] = field(default=_EMPTY, validator=Tables(Table(ModelSettings), "ALIAS"))
    clients: Mapping[str, ClientSettings] = field(default=_EMPTY, validator=Tables(Table(ClientSettings)))
    health: HealthSettings = field(factory=HealthSettings, validator=Table(HealthSettings))
    caching: CachingSettings = field(factory=CachingSettings, validator=Table(CachingSettings))
    circuit_breaker: CircuitBreakerSettings = field(
        factory=CircuitBreakerSettings, validator=Table(CircuitBreakerSettings)
    )
    plugins: PluginsSettings = field(factory=PluginsSettings, validator=Table(PluginsSettings))
    sources: Mapping[str, str] = field(default=_EMPTY, eq=False, repr=False, kw_only=True)


_ROOT = Table(Settings)


def describe() -> list[tuple[str, object, str]]:
    """Key path, default (``None`` where one must be given) and one line of help of each setting, in order."""
    return [(dotted(path), default, text) for path, default, text in _ROOT.leaves()]


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    overrides: Mapping[str, object] = {},
    directory: Path = Path("."),
) -> Settings:
    """The settings from all layers, later wins: defaults, TOML file, ``.env``, ``environ``, ``overrides``.

    ``path`` names the TOML file, else ``AGENTHUB_CONFIG`` does, else it is ``config/agenthub.toml`` when that is
    there; it and ``.env`` are looked for in ``directory``. ``overrides``: TOML key path -> value, where ``None`` means
    that it was not given.
    Raises ConfigError, whose one line says the source, the key path, what is wrong and what is allowed.
    """
    layers = Layers(_ROOT)
    add_sources(layers, path, environ, overrides, directory)
    settings = cast(Settings, layers.build())
    _check_references(settings, layers)
    return attrs.evolve(settings, sources=MappingProxyType(layers.named_sources()))


def _check_references(settings: Settings, layers: Layers) -> None:
    """Raises ConfigError where a name should be a configured backend's and is not."""
    wanted: list[tuple[tuple[str, ...], str]] = []
    if settings.default_backend:
        wanted.append((("default_backend",), settings.default_backend))
    for alias, model in settings.models.items():
        wanted += [(("models", alias, "backends"), name) for name in model.backends]
    for path, name in wanted:
        if name not in settings.backends:
            problem = f"{show(name)} is not a configured backend: use {either(tuple(settings.backends))}"
            raise layers.error(Wrong(problem, path))
