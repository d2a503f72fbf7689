"""The settings as doctor sees them: what loads and from where, what is hidden, and what was meant for us but is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import attrs

from agenthub.cli.doctor.origins import Origins, Row
from agenthub.cli.findings import Finding, Level
from agenthub.cli.options import load_settings
from agenthub.errors import ConfigError
from agenthub.settings import Settings, describe
from agenthub.settings.sources import CONFIG, DEFAULT_CONFIG, OLLAMA_HOST, PLAIN_NAMES, PREFIX, config_name, read_dotenv

_NEAR = 0.84
_OURS = re.compile(f"{PREFIX}|OLLAMA_", re.IGNORECASE)
# Ollama's own, of which some look like ours.
_OLLAMAS = re.compile(
    "OLLAMA_(HOST|API_KEY|AUTH|CONTEXT_LENGTH|DEBUG|FLASH_ATTENTION|GPU_OVERHEAD|INTEL_GPU|KEEP_ALIVE|KV_CACHE_TYPE"
    "|LLM_LIBRARY|LOAD_TIMEOUT|MAX_LOADED_MODELS|MAX_QUEUE|MODELS|MULTIUSER_CACHE|NEW_ENGINE|NOHISTORY|NOPRUNE"
    "|NUM_PARALLEL|ORIGINS|REMOTES|RUNNERS_DIR|SCHED_SPREAD|TMPDIR|VULKAN)"
)


@attrs.frozen
class Configured:
    """What the settings are, or in ``error`` why they do not load; and where doctor looked for them."""

    settings: Settings | None
    error: str
    config: str
    is_named: bool
    directory: Path
    dotenv: Mapping[str, str | None]
    origins: Origins

    def rows(self, *, everything: bool) -> list[Row] | None:
        """Return the settings to show, None where they do not load."""
        return None if self.settings is None else list(self.origins.rows(self.settings, everything=everything))


def configure(config: str | None, assignments: Sequence[str], given: Mapping[str, str | None]) -> Configured:
    """Load the settings as ``serve`` would, and remember what is wrong instead of raising it."""
    directory, settings, error = Path.cwd(), None, ""
    dotenv: Mapping[str, str | None] = {}
    try:
        dotenv = read_dotenv(directory)
        settings = load_settings(config, assignments, given)
    except ConfigError as caught:
        error = str(caught)
    name, is_named = config_name(Path(config) if config else None, os.environ, dotenv)
    origins = Origins.of(directory / name, directory)
    return Configured(settings, error, name, is_named, directory, dotenv, origins)


def examine_settings(found: Configured, rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield what is to be said of the settings, beside the plain rows."""
    yield _loading(found)
    for row in rows:
        if row.hidden:
            yield Finding("settings.hidden", Level.INFO, str(row), row.removals, row.key)
    yield from _files(found)
    yield from _ollama_host(found)
    yield from _misspelt(found)


def _loading(found: Configured) -> Finding:
    if found.settings is None:
        return Finding("settings.wrong", Level.ERROR, f"the settings do not load: {found.error}", _places(found))
    sources = ", ".join(dict.fromkeys(found.settings.sources.values())) or "defaults only"
    text = f"the settings load: {sources}"
    if not os.path.isfile(found.directory / found.config):
        text += f"; there is no {found.config} in {found.directory}"
    return Finding("settings.loaded", Level.OK, text)


def _places(found: Configured) -> list[str]:
    """Return where the mistake stands, as far as the loader's words tell: source, key path, problem."""
    layer, _, rest = found.error.partition(": ")
    name = rest.partition(": ")[0]
    if layer == "environment":
        return [f"unset {name}, or give it another value"]
    if layer == ".env" and name in found.origins.in_dotenv:
        return [f"Correct .env:{found.origins.in_dotenv[name]}"]
    if layer == found.config and name in found.origins.in_file:
        return [f"Correct {found.config}:{found.origins.in_file[name]}"]
    if layer == found.config and os.path.lexists(found.directory / layer):
        return [f"chmod u+r {layer}" if "Permission denied" in rest else f"Correct {layer}"]
    if layer == found.config:
        return [f"Write it, or take back what names it: {_namer(found)}"]
    return []


def _files(found: Configured) -> Iterator[Finding]:
    """Yield the files that look as if they were read and are not, and the one that nobody may expect to be."""
    here, used = os.path.realpath(found.directory), os.path.realpath(found.directory / found.config)
    default = os.path.join(here, DEFAULT_CONFIG)
    if found.is_named and os.path.isfile(default) and used != os.path.realpath(default):
        text = f"{DEFAULT_CONFIG} is there but not used: {_namer(found)} names {found.config} in its place"
        yield Finding("settings.config_unused", Level.INFO, text, subject=DEFAULT_CONFIG)
    beside = os.path.dirname(used)
    # config/agenthub.toml belongs to the folder that config stands in.
    around = beside if os.path.basename(beside) != "config" else os.path.dirname(beside)
    for folder in dict.fromkeys([beside, around]):
        if folder != here and os.path.isfile(os.path.join(folder, ".env")) and _is_ours(Path(folder)):
            text = f"{folder}/.env is not read: .env is looked for in the working directory, which is {here}"
            remedies = [f"cd {folder}", f"Or copy it: cp {folder}/.env {here}/.env"]
            yield Finding("settings.dotenv_elsewhere", Level.WARNING, text, remedies, f"{folder}/.env")
    if here not in (beside, around) and any(_OURS.match(name) for name in found.dotenv):
        text = f"{here}/.env is read, since that is the working directory, and goes before {found.config}"
        yield Finding("settings.dotenv", Level.INFO, text, subject=f"{here}/.env")


def _is_ours(folder: Path) -> bool:
    try:
        return any(_OURS.match(name) for name in read_dotenv(folder))
    except ConfigError:
        return True


def _ollama_host(found: Configured) -> Iterator[Finding]:
    """Yield where OLLAMA_HOST is set and not looked at. Its value is not shown: nobody has checked it."""
    if found.settings is None:
        return
    used = found.settings.sources.get("backends.ollama.url", "")
    places = [("environment", os.environ), (".env", found.dotenv)]
    for layer, variables in places:
        if not (variables.get(OLLAMA_HOST) or "").strip() or used == f"{layer}: {OLLAMA_HOST}":
            continue
        origin = found.origins.find(f"{layer}: {OLLAMA_HOST}", "")
        if used.endswith(f": {OLLAMA_HOST}"):
            why = "the one of the environment goes before it"
        else:
            why = f"backends are configured: {', '.join(found.settings.backends)}"
        text = f"OLLAMA_HOST ({origin}) is not looked at, since {why}"
        yield Finding("settings.ollama_host_unused", Level.INFO, text, [f"To be rid of it: {origin.removal}"])


def _misspelt(found: Configured) -> Iterator[Finding]:
    """Yield the variables that are not ours but nearly so. What begins as ours does, the loader refuses itself."""
    names = [PREFIX + key.upper().replace(".", "__") for key, _, _ in describe() if key.islower()]
    known = [*names, *PLAIN_NAMES, OLLAMA_HOST, CONFIG]
    for layer, variables in ((".env", found.dotenv), ("environment", os.environ)):
        for name in sorted(variables):
            upper = name.upper()
            if upper.startswith(PREFIX) or _OLLAMAS.fullmatch(upper) or upper in PLAIN_NAMES:
                continue
            if near := get_close_matches(upper, known, 1, _NEAR):
                origin = found.origins.find(f"{layer}: {name}", "")
                text = f"{name} ({origin}) is no setting, and nobody reads it"
                remedies = [f"Did you mean {near[0]}?", f"Or, to be rid of it: {origin.removal}"]
                yield Finding("settings.misspelt", Level.WARNING, text, remedies, name)


def _namer(found: Configured) -> str:
    """Return what names the TOML file."""
    for layer, variables in (("environment", os.environ), (".env", found.dotenv)):
        if variables.get(CONFIG) == found.config:
            return str(found.origins.find(f"{layer}: {CONFIG}", ""))
    return "--config"
