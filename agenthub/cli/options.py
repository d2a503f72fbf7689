"""The options that commands share, and the settings they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from agenthub.errors import ConfigError
from agenthub.settings import Settings, describe, load

Command = TypeVar("Command", bound=Callable[..., Any])

# Where a plain name is better known than the one that the rule gives.
_VARIABLES = {"api_mode": "OLLAMA_API_MODE"}


def settings_options(command: Command) -> Command:
    """Add ``--config`` and ``--set``, which every command that reads the settings takes."""
    command = click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="Any other setting, as in --set caching.policy=off; may be given more than once.",
    )(command)
    return click.option(
        "--config",
        metavar="FILE",
        help="The TOML file. [env: AGENTHUB_CONFIG; default: config/agenthub.toml, if there]",
    )(command)


def setting_option(key: str, metavar: str) -> Callable[[Command], Command]:
    """Return the option of one setting; its help names the environment variable and the default."""
    default, text = next((default, text) for name, default, text in describe() if name == key)
    variable = _VARIABLES.get(key, f"AGENTHUB_{key.replace('.', '__').upper()}")
    return click.option(
        f"--{key.replace('.', '-').replace('_', '-')}",
        metavar=metavar,
        help=f"{text} [env: {variable}; default: {default}]",
    )


def flag_option(key: str) -> Callable[[Command], Command]:
    """Return the option that switches one setting on."""
    text = next(text for name, _, text in describe() if name == key)
    help = f"{text} [env: AGENTHUB_{key.replace('.', '__').upper()}]"
    return click.option(f"--{key.replace('.', '-').replace('_', '-')}", is_flag=True, flag_value="true", help=help)


def load_settings(
    config: str | None, assignments: Sequence[str], given: Mapping[str, str | None] | None = None
) -> Settings:
    """Return the settings from all layers; raises ConfigError. ``given`` are the settings with options of their own."""
    overrides = dict(map(_split, assignments))
    overrides |= {key: value for key, value in (given or {}).items() if value is not None}
    return load(Path(config) if config else None, os.environ, overrides=overrides, directory=Path.cwd())


def _split(assignment: str) -> tuple[str, str]:
    key, equals, value = assignment.partition("=")
    if not equals:
        # Not shown: it may be a secret whose key was forgotten.
        raise ConfigError("command line: --set: use KEY=VALUE, as in --set caching.policy=off")
    return key.strip(), value
