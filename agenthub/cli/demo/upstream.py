"""What stands behind the hub in the demo: a real Ollama with a chat model, or the stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
from dotenv import dotenv_values

from agenthub.errors import AgentHubError, ConfigError
from agenthub.settings import BackendSettings
from agenthub.settings.sources import OLLAMA_HOST, parse_ollama_host
from agenthub.standin import Standin, running

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_PACE_S = 0.02
STANDIN_MODEL = "standin"
_LONGEST = 64


@attrs.frozen
class Upstream:
    """A server and the model to ask there; ``excuse`` is why it is only the stand-in, empty for a real Ollama.

    ``server`` is its name, and its version where it is an Ollama.
    """

    url: str
    model: str
    excuse: str = ""
    server: str = "stand-in"


class NoChat(Exception):
    """There is no Ollama that could chat; ``str()`` says why, as half a sentence."""


def ollama_url(environ: Mapping[str, str], directory: Path) -> str:
    """Return the URL that OLLAMA_HOST names, in ``environ`` or else in ``.env``; raises ConfigError."""
    host = environ.get(OLLAMA_HOST) or dotenv_values(directory / ".env", interpolate=False).get(OLLAMA_HOST)
    try:
        return BackendSettings(parse_ollama_host(host or "")).url
    except ConfigError as error:
        raise ConfigError(f"{OLLAMA_HOST}: {str(error).removeprefix('url: ')}") from error


@asynccontextmanager
async def find_upstream(url: str, model: str | None = None) -> AsyncIterator[Upstream]:
    """Yield the Ollama at ``url`` if it can chat, else a stand-in that runs while the block does.

    ``url`` may be empty, for the stand-in. Raises AgentHubError where ``model`` is asked for and not there.
    """
    excuse = ""
    if url:
        try:
            upstream = await find_ollama(url, model)
        except NoChat as error:
            excuse = str(error)
        else:
            yield upstream
            return
    standin = Standin(models=(model or STANDIN_MODEL,), pace_s=_PACE_S)
    async with running(standin) as standin_url:
        yield Upstream(standin_url, model or STANDIN_MODEL, excuse or "you asked for it with --stand-in")


async def find_ollama(url: str, wanted: str | None) -> Upstream:
    """Return the Ollama at ``url`` with the model ``wanted``, or its smallest one that can chat; raises NoChat."""
    try:
        async with aiohttp.ClientSession(url + "/", timeout=_TIMEOUT, raise_for_status=True) as session:
            # Other servers imitate the list of models, but not this.
            server = f"Ollama {(await _json(session.get('api/version')))['version']}"[:_LONGEST]
            models = (await _json(session.get("api/tags")))["models"] or []
            names = [entry["name"] for entry in models]
            if wanted is not None:
                return Upstream(url, _named(wanted, names, url), server=server)
            chat = [entry for entry in models if await _can_chat(session, entry)]
    except aiohttp.ClientResponseError as error:
        raise NoChat(f"what answers at {url} is no Ollama ({error.status})") from error
    except (aiohttp.ClientError, OSError) as error:
        raise NoChat(f"no Ollama answers at {url}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoChat(f"what answers at {url} is no Ollama") from error
    if not chat:
        raise NoChat(f"the Ollama at {url} has no model that can chat")
    smallest: str = min(chat, key=lambda entry: entry.get("size", 0))["name"]
    return Upstream(url, smallest.removesuffix(":latest"), server=server)


def _named(wanted: str, names: list[str], url: str) -> str:
    if wanted not in names and f"{wanted}:latest" not in names:
        raise AgentHubError(f"the Ollama at {url} has no model {wanted}: there are {', '.join(names) or 'none'}")
    return wanted


async def _can_chat(session: aiohttp.ClientSession, entry: Mapping[str, Any]) -> bool:
    name = entry["name"]
    # A cloud model has no size worth the name, and wants an account.
    if "embed" in name.lower() or entry.get("remote_host"):
        return False
    shown = await _json(session.post("api/show", json={"model": name}))
    # Ollama names capabilities only since 0.6.4.
    return "completion" in shown.get("capabilities", ["completion"])


async def _json(answer: Any) -> dict[str, Any]:
    async with answer as response:
        body: dict[str, Any] = await response.json(content_type=None)
        return body
