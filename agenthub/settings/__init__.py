"""Every setting of the hub, frozen, with its default, its rule and one line of help; ``load`` reads them.

The classes are the one table that the loader, its error texts, :func:`describe` and the checks of
``config/agenthub.toml`` go by. Durations are seconds, sizes bytes; 0 switches a limit or a background task off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import attrs
from attrs import field, frozen

from agenthub.enhancement.loading import load_rules
from agenthub.settings.enhancement import EnhancementSettings
from agenthub.settings.entries import EMPTY, BackendSettings, ClientSettings, ModelSettings, with_targets
from agenthub.settings.groups import (
    BalancingSettings,
    CachingSettings,
    CircuitBreakerSettings,
    CorsSettings,
    HealthSettings,
    LogSettings,
    PluginsSettings,
    ProtectionSettings,
    RetrySettings,
)
from agenthub.settings.keyfiles import with_keys
from agenthub.settings.kinds import Flag, Seconds, Text, Texts, Whole, Wrong, either, show
from agenthub.settings.secret import Secret
from agenthub.settings.sources import Layers, add_sources, dotted
from agenthub.settings.tables import Table, Tables

__all__ = [
    "BackendSettings",
    "BalancingSettings",
    "CachingSettings",
    "CircuitBreakerSettings",
    "ClientSettings",
    "CorsSettings",
    "EnhancementSettings",
    "HealthSettings",
    "LogSettings",
    "ModelSettings",
    "PluginsSettings",
    "ProtectionSettings",
    "RetrySettings",
    "Secret",
    "Settings",
    "describe",
    "load",
]


@frozen
class Settings:
    """The whole configuration.

    ``sources`` says where each value that is not a default came from, by its key path; ``hidden`` the sources and
    values that it hides, the nearest layer first.
    """

    host: str = field(
        default="127.0.0.1", validator=Text("Address to listen on; 0.0.0.0 also takes other machines.", filled=True)
    )
    port: int = field(default=9090, validator=Whole("Port to listen on; 0: any free one.", high=65535))
    api_mode: str = field(
        default="native",
        validator=Text(
            "The adapter unless something nearer says so: native, openai, another that is installed, or auto.",
            filled=True,
        ),
    )
    middleware: tuple[str, ...] = field(
        default=("logging", "limits", "caching", "failover", "circuit_breaker"),
        validator=Texts("What stands around each dispatch, outermost first."),
    )
    default_backend: str = field(
        default="",
        validator=Text("Where a model goes that no backend lists; empty: the only backend, if there is one."),
    )
    strict: bool = field(
        default=False, validator=Flag("Answer 400 instead of dropping a field that has no place upstream.")
    )
    sidecar: bool = field(
        default=False,
        validator=Flag("Add x_ollama or x_openai to an answer: what the client's dialect has no field for."),
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
    workers: int = field(default=1, validator=Whole("Processes that serve; more than one needs gunicorn.", low=1))
    insecure: bool = field(
        default=False, validator=Flag("Listen on an address beyond loopback though no client has a key.")
    )
    sse_ping_s: float = field(
        default=15.0, validator=Seconds("Silence in a stream of /v1 after which a comment keeps it open; 0: never.")
    )
    log: LogSettings = field(factory=LogSettings, validator=Table(LogSettings))
    backends: Mapping[str, BackendSettings] = field(
        default=EMPTY,
        validator=Tables(Table(BackendSettings), names=r"[A-Za-z0-9_.-]+", spelled='letters, digits, "_", "." and "-"'),
    )
    models: Mapping[str, ModelSettings] = field(
        default=EMPTY, converter=with_targets, validator=Tables(Table(ModelSettings), "ALIAS")
    )
    clients: Mapping[str, ClientSettings] = field(default=EMPTY, validator=Tables(Table(ClientSettings)))
    balancing: BalancingSettings = field(factory=BalancingSettings, validator=Table(BalancingSettings))
    retries: RetrySettings = field(factory=RetrySettings, validator=Table(RetrySettings))
    cors: CorsSettings = field(factory=CorsSettings, validator=Table(CorsSettings))
    protection: ProtectionSettings = field(factory=ProtectionSettings, validator=Table(ProtectionSettings))
    health: HealthSettings = field(factory=HealthSettings, validator=Table(HealthSettings))
    caching: CachingSettings = field(factory=CachingSettings, validator=Table(CachingSettings))
    circuit_breaker: CircuitBreakerSettings = field(
        factory=CircuitBreakerSettings, validator=Table(CircuitBreakerSettings)
    )
    enhancement: EnhancementSettings = field(factory=EnhancementSettings, validator=Table(EnhancementSettings))
    plugins: PluginsSettings = field(factory=PluginsSettings, validator=Table(PluginsSettings))
    sources: Mapping[str, str] = field(default=EMPTY, eq=False, repr=False, kw_only=True)
    hidden: Mapping[str, tuple[tuple[str, object], ...]] = field(default=EMPTY, eq=False, repr=False, kw_only=True)


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
    try:
        clients = with_keys(dict(settings.clients), directory)
        enhancement = attrs.evolve(settings.enhancement, rules=load_rules(settings.enhancement.file, directory))
    except Wrong as wrong:
        raise layers.error(wrong) from None
    settings = attrs.evolve(settings, clients=clients, enhancement=enhancement)
    named, hidden = MappingProxyType(layers.named_sources()), MappingProxyType(layers.named_hidden())
    return attrs.evolve(settings, sources=named, hidden=hidden)


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
