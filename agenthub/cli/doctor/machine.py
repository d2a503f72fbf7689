"""What of this machine and this process matters to a hub."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import agenthub
from agenthub.api.listening import is_known
from agenthub.cli.findings import Finding, Level
from agenthub.cli.serving import many_files
from agenthub.settings import Settings

_LIBRARIES = ("aiohttp", "orjson", "uvloop", "redis", "gunicorn")
_OWN_FILES, _FEW_STREAMS = 64, 256
"""Files that a hub has open before its first request, about; and streams below which a limit is worth a word."""
_MORE_FILES = (
    "Under systemd: LimitNOFILE=65536",
    "Elsewhere, as root, in /etc/security/limits.conf: * hard nofile 65536",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SLACK_S = 24 * 3600.0


def examine_machine(settings: Settings | None) -> Iterator[Finding]:
    """Yield versions, the event loop, the limit of open files, the clock, and variables that mislead."""
    found = {name: text for name in _LIBRARIES if (text := _version(name))}
    libraries = ", ".join(f"{name} {text}" for name, text in found.items())
    text = f"AgentHub {agenthub.__version__} on Python {platform.python_version()}, {platform.system()}; {libraries}"
    yield Finding("machine.versions", Level.OK, text)
    if not is_known():
        text = f"aiohttp {found.get('aiohttp', '')} is not known to the hub: slow clients are not cut off"
        yield Finding("machine.aiohttp", Level.WARNING, text, ['pip install "aiohttp==3.14.*"'])
    if find_spec("uvloop") is None:
        text = "event loop: asyncio's own; uvloop is faster"
        yield Finding("machine.uvloop", Level.INFO, text, ["pip install uvloop"])
    else:
        yield Finding("machine.uvloop", Level.OK, "event loop: uvloop")
    yield _files(settings)
    yield from _clock()
    yield from _proxies()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _files(settings: Settings | None) -> Finding:
    most = many_files()
    if most == resource.RLIM_INFINITY:
        return Finding("machine.files", Level.OK, "open files: no limit")
    streams = max(0, (most - _OWN_FILES) // 2)
    text = f"open files: at most {most}, enough for some {streams} requests at once (two each)"
    wanted = max(_FEW_STREAMS, _configured_streams(settings))
    if streams >= wanted:
        return Finding("machine.files", Level.OK, text)
    text += f"; {wanted} may come" if wanted > _FEW_STREAMS else ""
    return Finding("machine.files", Level.WARNING, text, _MORE_FILES)


def _configured_streams(settings: Settings | None) -> int:
    """Return how many requests the backends' limits let run or wait; one without a limit says nothing."""
    backends = settings.backends.values() if settings is not None else ()
    return sum(backend.max_concurrency + backend.queue_size for backend in backends if backend.max_concurrency)


def _clock() -> Iterator[Finding]:
    """Yield it where the clock stands before the day on which AgentHub was installed."""
    try:
        installed = Path(agenthub.__file__).stat().st_mtime
    except OSError:
        return
    if time.time() + _SLACK_S < installed:
        now, then = (datetime.fromtimestamp(moment, UTC).date() for moment in (time.time(), installed))
        text = f"the clock of this machine says {now}, before AgentHub was installed ({then}): https will fail"
        yield Finding("machine.clock", Level.WARNING, text, ["timedatectl set-ntp true"])


def _proxies() -> Iterator[Finding]:
    """Yield the variables that other programs heed. Their values may hold a password and are not shown."""
    names = [name for name in os.environ if name.upper() in _PROXIES and os.environ[name]]
    if not names:
        return
    text = f"{', '.join(sorted(names))}: the hub does not use it, backends are asked directly"
    excluded = os.environ.get("NO_PROXY", "") + os.environ.get("no_proxy", "")
    remedies = []
    if not any(local in excluded for local in ("127.0.0.1", "localhost", "*")):
        remedies = ["Clients on this machine may: export NO_PROXY=127.0.0.1,localhost"]
    yield Finding("machine.proxy", Level.INFO, text, remedies)
