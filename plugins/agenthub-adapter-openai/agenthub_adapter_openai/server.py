"""Server: the software behind an OpenAI-compatible API, found out unless a setting names it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence

import attrs
import structlog

from agenthub import AgentHubError, HttpUpstream, ModelInfo, UpstreamProtocol, UpstreamStatus
from agenthub.dialects import ollama, openai

AUTO, GENERIC, OLLAMA = "auto", "generic", "ollama"
AGAIN_S = 60.0
"""For how long an answer to the question holds, since another server may be started at the same address."""
_SOON_S = 10.0
_LONGEST_S = 1.0
_LATER = frozenset({408, 425, 429})
_VERSION = re.compile(r"v?\d+\.\d+")
_log = structlog.get_logger("agenthub")


@attrs.define
class Server:
    """Remembers whether the server is an Ollama, by its answer to ``/api/version``; ``clock`` is monotonic.

    ``flavour`` names the words that are used with it: those of the setting, which ``auto`` leaves to what was found.
    ``is_ollama`` is None until that is known. It is asked for the setting ``generic`` too, since an Ollama dies of some
    requests whatever a setting calls it.
    """

    upstream: HttpUpstream = attrs.field(repr=False)
    setting: str = AUTO
    clock: Callable[[], float] = time.monotonic
    is_ollama: bool | None = None
    flavour: str = attrs.field(init=False)
    is_other: bool = False
    """True where it lists models as no Ollama does."""
    is_up: bool = False
    """True while its last list was answered."""
    _ask_at: float = 0.0
    _open_at: float = 0.0
    """When requests wait for the question again, where it was asked in vain."""

    def __attrs_post_init__(self) -> None:
        self.flavour = GENERIC if self.setting == AUTO else self.setting
        if self.setting not in (AUTO, GENERIC):
            self.is_ollama = self.setting == OLLAMA

    @property
    def is_guessed(self) -> bool:
        """Whether no setting names the server."""
        return self.setting in (AUTO, GENERIC)

    @property
    def is_identified(self) -> bool:
        """Whether it is known what the server is, or a server that is up has just been asked in vain."""
        return self.is_ollama is not None or not self.is_guessed or self.clock() < self._open_at

    @property
    def may_be_ollama(self) -> bool:
        """Whether it is one, or could be one behind a proxy that passes nothing but ``/v1``."""
        return bool(self.is_ollama) or (self.is_guessed and not self.is_other)

    @property
    def title(self) -> str:
        """What the start-up line calls it; one that nobody has asked yet is taken for an Ollama."""
        is_ollama = self.flavour == OLLAMA or (self.setting == AUTO and self.is_ollama is None)
        return "OpenAI-compatible Ollama API" if is_ollama else "OpenAI-compatible API"

    async def identify(self) -> None:
        """Ask the server, unless its last answer still holds. Takes two seconds at most and raises nothing."""
        if not self.is_guessed or self.clock() < self._ask_at:
            return
        try:
            async with asyncio.timeout(_LONGEST_S):
                body = await self.upstream.get(ollama.listing.VERSION_PATH)
            self._found(is_version(body))
        except UpstreamStatus as error:
            if error.status < 500 and error.status not in _LATER:
                self._found(False)
            else:
                await self._put_off()
        except UpstreamProtocol:
            self._found(False)
        except TimeoutError:
            await self._put_off()
        except AgentHubError:
            pass

    async def _put_off(self) -> None:
        """Leave it unknown for a while: some servers keep silent on paths that they do not know, or fail.

        One that answers nothing else either is down: it is asked again before the next request.
        """
        self._ask_at = self.clock() + _SOON_S
        try:
            if not self.is_up:
                async with asyncio.timeout(_LONGEST_S):
                    self.listed(openai.listing.parse_models(await self.upstream.get(openai.listing.MODELS_PATH)))
        except (AgentHubError, TimeoutError):
            self._ask_at = 0.0
            return
        self._open_at = self.clock() + AGAIN_S

    def listed(self, models: Sequence[ModelInfo]) -> None:
        """It gave this list by its OpenAI-compatible API."""
        self.is_up = True
        self.is_other = bool(models) and not any(map(openai.listing.is_of_ollama, models))

    def doubt(self) -> None:
        """The server failed, so another one may be there the next time."""
        self._ask_at, self._open_at, self.is_up = 0.0, 0.0, False

    def _found(self, is_ollama: bool) -> None:
        self._ask_at = self.clock() + AGAIN_S
        if self.is_ollama is not None and self.is_ollama != is_ollama:
            _log.info("agenthub.server_changed", backend=self.upstream.name, is_ollama=is_ollama)
        self.is_ollama = is_ollama
        if self.setting == AUTO:
            self.flavour = OLLAMA if is_ollama else GENERIC


def is_version(body: bytes) -> bool:
    """Say whether a body tells a version as Ollama does, in numbers; other proxies tell the number of a build."""
    try:
        return _VERSION.match(ollama.listing.parse_version(body)) is not None
    except UpstreamProtocol:
        return False
