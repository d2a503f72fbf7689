"""Looks at everything, group by group, each with an end in time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from agenthub.cli.doctor.configured import Configured, examine_settings
from agenthub.cli.doctor.extensions import examine_plugins, load_extensions
from agenthub.cli.doctor.machine import examine_machine
from agenthub.cli.doctor.origins import Row
from agenthub.cli.doctor.serving import examine_serving
from agenthub.cli.doctor.upstreams import examine_backends
from agenthub.cli.findings import Finding, Level
from agenthub.settings import Settings

_LIMIT_S = 5.0
GROUPS = ("settings", "plugins", "backends", "models", "server", "machine")


async def look(found: Configured, rows: Sequence[Row]) -> AsyncGenerator[tuple[str, Finding], None]:
    """Yield group and finding, in the order of ``GROUPS``; without settings what can be looked at without them."""
    for finding in examine_settings(found, rows):
        yield "settings", finding
    settings = found.settings
    extensions = load_extensions(settings or Settings())
    is_sound = settings is not None and not extensions.error
    # Without settings nobody asks for an adapter or a middleware, so that what is there is listed against the defaults.
    for finding in examine_plugins(settings or Settings(), extensions):
        yield "plugins", finding
        is_sound = is_sound and finding.level is not Level.ERROR
    if settings is None:
        text = "not looked at, since the settings do not load: backends, models, the port"
        yield "backends", Finding("backends.skipped", Level.INFO, text)
    else:
        limit_s = settings.health.ping_timeout_s or _LIMIT_S
        async with aclosing(examine_backends(settings, extensions.plugins, found.origins, limit_s)) as of_backends:
            async for group, finding in of_backends:
                yield group, finding
        async with aclosing(examine_serving(settings, extensions.plugins if is_sound else None, limit_s)) as of_server:
            async for finding in of_server:
                yield "server", finding
    for finding in examine_machine(settings):
        yield "machine", finding
