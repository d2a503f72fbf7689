"""Whether the hub could start and be reached: its address and port, Redis, more processes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator
from importlib.util import find_spec

from agenthub.app import build_hub
from agenthub.cli.diagnosis import OLLAMA_PORT
from agenthub.cli.doctor.listening import Listener, identify
from agenthub.cli.examining import examine_exposure, examine_redis
from agenthub.cli.findings import Finding, Level
from agenthub.cli.ports import explain_port, port_problem
from agenthub.errors import AgentHubError, ConfigError
from agenthub.plugins import Plugins
from agenthub.settings import Settings
from agenthub.shared import make_shared

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


async def examine_serving(settings: Settings, plugins: Plugins | None, limit_s: float) -> AsyncGenerator[Finding, None]:
    """Yield what stands in the way of serving; without ``plugins`` it is known already that the hub cannot be made."""
    if plugins is not None:
        try:
            build_hub(settings, plugins)
        except Exception as error:  # what plugins bring may raise anything
            why = str(error) if isinstance(error, AgentHubError) else repr(error)
            yield Finding("server.start", Level.ERROR, f"the hub will not start: {why}")
    for finding in examine_exposure(settings):
        yield finding
    if settings.port:
        yield await _examine_port(settings, limit_s)
    for finding in _examine_workers(settings):
        yield finding
    try:
        shared = make_shared(settings.caching)
    except ConfigError:
        return  # build_hub has said so
    if shared is not None:
        finding = await examine_redis(shared)
        # The hub serves without it; check, which asks whether all is as it is meant to be, takes it for a failure.
        yield finding if finding.level is Level.OK else _milder(finding)


def _milder(finding: Finding) -> Finding:
    return Finding(finding.id, Level.WARNING, finding.text, finding.remedies, finding.subject)


async def _examine_port(settings: Settings, limit_s: float) -> Finding:
    host, port = settings.host, settings.port
    problem = port_problem(host, port)
    if problem is None:
        return Finding("server.port", Level.OK, f"port {port} on {host} is free; a hub does not run there now")
    if problem.errno != errno.EADDRINUSE:
        return Finding("server.port", Level.ERROR, explain_port(host, port, problem))
    name = _ANY.get(host, host)
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
    return _who(settings, url, await identify(url, limit_s))


def _who(settings: Settings, url: str, listener: Listener | None) -> Finding:
    port = settings.port
    spare = _free_port(settings.host, port)
    elsewhere = f"agenthub serve --port {spare}"
    match listener:
        case Listener("agenthub"):
            text = f"port {port} is in use: an AgentHub serves at {url}, with the settings of its own start"
            remedies = ["After a change of settings, reload or restart it: kill -HUP PID", f"For a second: {elsewhere}"]
            return Finding("server.running", Level.INFO, text, remedies)
        case Listener("ollama"):
            text = f"port {port} is in use: an Ollama listens at {url}, where the hub is to be"
            other = f"OLLAMA_HOST=127.0.0.1:{OLLAMA_PORT + (port == OLLAMA_PORT)}"
            remedies = [elsewhere, f"Or give Ollama another: {other} ollama serve, and the hub: {other}"]
            return Finding("server.port_ollama", Level.ERROR, text, remedies)
        case Listener("http", name):
            text = f"port {port} is in use: another HTTP server listens at {url}{name and f' ({name})'}"
        case Listener():
            text = f"port {port} is in use: what listens at {url} speaks no HTTP"
        case None:
            text = f"port {port} is in use, though nothing takes a connection at {url}"
    return Finding("server.port_other", Level.ERROR, text, [elsewhere, f"Who it is: ss -ltnp 'sport = :{port}'"])


def _free_port(host: str, port: int) -> int:
    """Return the next port that can be opened, for the remedy to work."""
    return next((near for near in range(port + 1, min(port + 50, 65536)) if port_problem(host, near) is None), 0)


def _examine_workers(settings: Settings) -> Iterator[Finding]:
    if settings.workers < 2:
        return
    if find_spec("gunicorn") is None:
        text = f"workers = {settings.workers} needs gunicorn, which is not installed"
        yield Finding("server.workers", Level.ERROR, text, ["pip install gunicorn", "Or set workers = 1."])
    elif problem := _temporary_problem():
        text = f"workers = {settings.workers} needs a folder for temporary files: {problem}"
        yield Finding("server.workers", Level.ERROR, text, ["TMPDIR=/path/to/one agenthub serve"])
    if settings.caching.backend == "memory":
        text = f"workers = {settings.workers}: each process has a cache, breakers and limits of its own"
        yield Finding("server.workers_apart", Level.INFO, text, ['To share them: caching.backend = "redis"'])


def _temporary_problem() -> str:
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written"
