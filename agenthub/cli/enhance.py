"""``agenthub enhance``."""

from __future__ import annotations

import asyncio
import re
import sys
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import attrs
import click
from rich.text import Text

from agenthub.cli.console import make_console, mute_logging
from agenthub.cli.opening import open_hub
from agenthub.cli.options import load_settings, settings_options
from agenthub.errors import AgentHubError, ConfigError
from agenthub.settings import CachingSettings, Settings
from agenthub.settings.kinds import Url, Wrong

_PATIENCE_S = 600.0
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@click.command()
@click.argument("prompt", required=False)
@click.option("--client", metavar="NAME", default="", help="Go by the rule for this client.")
@click.option("--model", metavar="NAME", default="", help="Ask this model in the place of the rule's.")
@click.option("--anew", is_flag=True, help="Take no kept answer; only a running hub has any.")
@click.option("--url", metavar="URL", help="Ask the hub that runs there, in the place of these settings.")
@click.option("--key-file", metavar="FILE", help="A file that holds an API key for the hub at --url.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context, /, prompt: str | None, config: str | None, assignments: tuple[str, ...], **wishes: Any
) -> None:
    """Put a prompt better by the rules of the hub.

    PROMPT is what stands on stdin where it is not given, or is "-". On a terminal
    the changes are shown, elsewhere the new prompt alone. Ends with 0 when the
    prompt is put better, with 1 when it stays as it was, and says why on stderr.
    """
    prompt = _read(prompt)
    if wishes["url"] is not None:
        found = asyncio.run(_ask(prompt, **wishes))
    else:
        if wishes["key_file"] is not None:
            raise click.UsageError("--key-file needs --url")
        settings = load_settings(config, assignments)
        mute_logging()
        found = asyncio.run(_enhance(settings, prompt, wishes["client"], wishes["model"]))
    _print(found)
    if not found["was_enhanced"]:
        ctx.exit(1)


def _read(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError('Missing argument "PROMPT".')
    return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\r\n")


async def _enhance(settings: Settings, prompt: str, client: str, model: str) -> dict[str, Any]:
    """Do what a running hub would do, without one."""
    from agenthub.middleware import Caller

    # It asks once and is gone.
    settings = attrs.evolve(settings, caching=CachingSettings(policy="off"))
    async with open_hub(settings) as hub:
        try:
            found = await hub.enhancer.enhance(prompt, Caller(client=client), model=model)
        finally:
            hub.dispatcher.close()
    return found.to_json()


async def _ask(prompt: str, *, url: str, key_file: str | None, client: str, model: str, anew: bool) -> dict[str, Any]:
    """Return what the hub at ``url`` says; raises AgentHubError."""
    import aiohttp

    body = {"prompt": prompt, "client": client or None, "model": model or None, "bypass_cache": anew}
    headers = {"Authorization": f"Bearer {_read_key(key_file)}"} if key_file is not None else {}
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    try:
        root = Url("").check(url).rstrip("/")
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{root}/hub/enhance", json=body, headers=headers) as response,
        ):
            found = await response.json(content_type=None)
    except Wrong as wrong:
        raise ConfigError(f"command line: --url: {wrong}") from None
    except TimeoutError:
        raise AgentHubError(f"{url} did not answer within {_PATIENCE_S:g} s") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise AgentHubError(f"{url} is no hub that can be asked: {error}") from None
    if not isinstance(found, dict) or "was_enhanced" not in found:
        said = found.get("error") if isinstance(found, dict) else None
        raise AgentHubError(f"{url} answered {response.status}: {said or 'nothing that a hub would say'}")
    return found


def _read_key(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        # Not the name: it may be the key itself.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"command line: --key-file: the file cannot be read: {reason}") from None


def _print(found: dict[str, Any]) -> None:
    console = make_console()
    if console.is_terminal and found["was_enhanced"]:
        console.print(_difference(found["original"], found["enhanced"]))
        facts = [
            f"{found['rule']}@{found['rule_version']}",
            found["model"] or "a plugin",
            f"{found['elapsed_s']:.1f} s",
        ]
        console.print(Text(", ".join([*facts, *(["from the cache"] if found["cached"] else [])]), "dim"))
    else:
        click.echo(found["enhanced"])
    if not found["was_enhanced"]:
        click.echo(f"agenthub: not enhanced: {found['error']}", err=True)


def _difference(old: str, new: str) -> Text:
    """Return both texts in one, word by word: what is gone struck out in red, what is new in green."""
    before: list[str] = _WORDS.findall(old)
    after: list[str] = _WORDS.findall(new)
    shown = Text()
    for what, start, end, new_start, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        gone, come = "".join(before[start:end]), "".join(after[new_start:new_end])
        if what == "equal":
            shown.append(come)
        else:
            shown.append(gone, "red strike")
            shown.append(come, "green")
    return shown
