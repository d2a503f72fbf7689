"""What the demo prints."""

from __future__ import annotations

from textwrap import fill
from urllib.parse import urlsplit

import aiohttp
import attrs
from rich.console import Console
from rich.text import Text

from agenthub import __version__
from agenthub.cli.demo.asking import LANES, Answer, Lane, NoAnswer, ask
from agenthub.cli.demo.upstream import Upstream

QUESTION = "Say in one short sentence why the sky is blue"
_WIDTH = 78
_INDENT = "     "
_STANDIN = (
    "NO REAL MODEL: {excuse}, so this demo uses the stand-in, a small server that speaks both of Ollama's APIs "
    "and repeats the question. For real answers: ollama serve, then ollama pull llama3.2:1b, then this again."
)
_CURLS = """\
curl {url}/api/chat -d '{{
  "model": "{model}",
  "messages": [{{"role": "user", "content": "Hello"}}]}}'

curl {url}/v1/chat/completions -d '{{
  "model": "{model}",
  "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""
_MORE = """\
choose the adapter    add -H 'X-AgentHub-Api-Mode: openai'
see what was done     add -i, for the X-AgentHub-* headers
with ollama itself    OLLAMA_HOST={host} ollama run {model}
with OpenAI's SDKs    OPENAI_BASE_URL={url}/v1
                      OPENAI_API_KEY=any
"""


@attrs.define
class Show:
    """The story of the demo, told on ``console`` by asking the hub at ``url``."""

    console: Console
    url: str
    model: str

    def introduce(self, upstream: Upstream, *, wanted_port: int) -> None:
        """Say what stands where."""
        self._say(f"AgentHub {__version__}: the demo\n", "bold")
        if upstream.excuse:
            self._say(fill(_STANDIN.format(excuse=upstream.excuse), _WIDTH, break_on_hyphens=False) + "\n", "yellow")
        port = urlsplit(self.url).port
        taken = f" (port {wanted_port} is in use, so it took {port})" if port != wanted_port else ""
        self._say(f"model server   {upstream.url}, {upstream.server}, model {self.model}")
        self._say(f"the hub        {self.url}{taken}")
        self._say("who may call   anyone on this machine, without a key\n")

    async def ask_in_each_lane(self) -> bool:
        """Ask in all four lanes, streaming; return whether each answered."""
        self._say("One question through each dialect and each adapter", "bold")
        self._say(f"{_INDENT}{QUESTION}\n")
        answered = True
        async with self._session() as session:
            for number, lane in enumerate(LANES, 1):
                title = f"{lane.dialect} client, {lane.api_mode} adapter"
                self.console.print(
                    Text.assemble((f"  {number}  {title:34}", "cyan"), (f"POST {lane.path}", "dim")), soft_wrap=True
                )
                answered = await self._stream(session, lane) and answered
        return answered

    async def _stream(self, session: aiohttp.ClientSession, lane: Lane) -> bool:
        flow = Flow(self.console)
        try:
            answer = await ask(session, lane, self.model, QUESTION, flow.write)
        except NoAnswer as error:
            flow.end()
            self._say(f"{_INDENT}failed: {error}\n", "bold red")
            return False
        flow.end()
        words = f"{answer.tokens} tokens, the first after {_ms(answer.first_s)}, the last after {_ms(answer.total_s)}"
        self._say(f"{_INDENT}{words}\n", "dim")
        return True

    async def ask_the_cache(self) -> bool:
        """Ask twice with temperature 0, in two dialects; return whether the second answer came from the cache."""
        self._say("The same question twice with temperature 0: the second answer is a cached one", "bold")
        caches = []
        async with self._session() as session:
            for lane in (LANES[0], LANES[3]):
                try:
                    answer = await ask(session, lane, self.model, QUESTION, _ignore, temperature=0)
                except NoAnswer as error:
                    self._say(f"{_INDENT}failed: {error}\n", "bold red")
                    return False
                caches.append(answer.cache)
                self._say_cached(lane, answer)
        self._say("")
        return caches == ["miss", "hit"]

    def _say_cached(self, lane: Lane, answer: Answer) -> None:
        style = "bold green" if answer.cache == "hit" else ""
        line = Text(f"{_INDENT}{lane.dialect} client, {lane.api_mode} adapter   X-AgentHub-Cache: ")
        self.console.print(line.append(answer.cache.ljust(4), style).append(f"{_ms(answer.total_s):>12}"))

    def invite(self) -> None:
        """Print what to try."""
        self._say("Try it yourself", "bold")
        for line in _CURLS.format(url=self.url, model=self.model).splitlines():
            self._say(f"  {line}" if line else "")
        self._say("")
        for line in _MORE.format(url=self.url, model=self.model, host=urlsplit(self.url).netloc).splitlines():
            self._say(f"  {line}")

    def say_how_to_stay(self) -> None:
        """Print what to run to try it: this hub ends now."""
        self._say("To try it yourself: agenthub demo, without --exit, serves on until Ctrl-C.", "bold")

    def say_serving(self) -> None:
        """Say that the hub stays, and what will appear below."""
        self._say(f"\nServing on {self.url} until Ctrl-C; each question is one log line:", "bold green")

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=600))

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, soft_wrap=True)


@attrs.define
class Flow:
    """Prints an answer as it arrives, indented, with lines broken between words."""

    console: Console
    _column: int = 0

    def write(self, piece: str) -> None:
        """Print one piece of the text."""
        for number, part in enumerate(piece.split("\n")):
            if number:
                self.end()
            if self._column == 0 or (part[:1] == " " and self._column + len(part) > self._width):
                self.end()
                part = part.lstrip()
                self._put(_INDENT if part else "")
            self._put(part)

    def end(self) -> None:
        """End the line, if there is one."""
        if self._column:
            self.console.print()
        self._column = 0

    @property
    def _width(self) -> int:
        return min(_WIDTH, self.console.width - 1)

    def _put(self, text: str) -> None:
        self.console.print(text, end="", soft_wrap=True)
        self.console.file.flush()
        self._column += len(text)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _ignore(text: str) -> None:
    """The cached answers are not shown again."""
