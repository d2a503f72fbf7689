"""``agenthub demo``, as a process of its own."""

from __future__ import annotations

import signal
import socket
from io import StringIO

import aiohttp
import pytest
from rich.console import Console

from agenthub.cli.demo.asking import LANES, text_of
from agenthub.cli.demo.show import Flow
from agenthub.cli.demo.upstream import NoChat, find_ollama
from agenthub.standin import Fault, Model, Standin, running
from tests.cli.support import clean_environ, finished, started, taken_port

SAID = "You said: Say in one short sentence why the sky is blue."


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago; the demo takes the next one should it be gone."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    return number


def checked_show(out: str) -> str:
    """Return ``out`` after checking the parts that every show has."""
    for lane in LANES:
        assert f"{lane.dialect} client, {lane.api_mode} adapter" in out
    assert out.count(SAID) == 4
    assert out.count("tokens, the first after") == 4
    assert out.index("X-AgentHub-Cache: miss") < out.index("X-AgentHub-Cache: hit")
    return out


async def test_without_an_ollama(closed_port: int, port: int) -> None:
    """Where no Ollama answers the demo says so, and shows everything with the stand-in; --exit ends it with 0."""
    environ = clean_environ(OLLAMA_HOST=f"127.0.0.1:{closed_port}")
    status, out, err = await finished("demo", "--exit", "--port", str(port), environ=environ)
    assert (status, err) == (0, "")
    assert f"NO REAL MODEL: no Ollama answers at http://127.0.0.1:{closed_port}, so" in " ".join(out.split())
    assert "stand-in, model standin" in checked_show(out)
    assert max(map(len, out.splitlines())) < 80
    # This hub is gone by the time anybody could paste its address.
    assert "curl" not in out
    assert "To try it yourself: agenthub demo, without --exit" in out


async def test_with_an_ollama(port: int) -> None:
    """An Ollama that answers is used, with a model that can chat: not one for embeddings, whatever it is called."""
    standin = Standin(models=(Model("vectors", ("embedding",)), "nomic-embed-text", "talker"))
    async with running(standin) as url:
        environ = clean_environ(OLLAMA_HOST=url)
        status, out, _ = await finished("demo", "--exit", "--port", str(port), environ=environ)
    assert status == 0
    assert f"{url}, Ollama {Standin().version}, model talker" in checked_show(out)
    assert "NO REAL MODEL" not in out


async def test_it_serves_on(closed_port: int) -> None:
    """After the show the hub answers on its port, or the next one where that is in use, until Ctrl-C."""
    environ = clean_environ(OLLAMA_HOST=f"127.0.0.1:{closed_port}")
    with taken_port(listening=True) as port:
        async with started("demo", "--port", str(port), environ=environ) as demo:
            out = await demo.read_until("Serving on")
            assert f"(port {port} is in use, so it took " in out
            url = out.split("Serving on ")[1].split()[0]
            assert f"curl {url}/api/chat" in out
            assert f"curl {url}/v1/chat/completions" in out
            body = {"model": "standin", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
            async with aiohttp.ClientSession() as session, session.post(f"{url}/api/chat", json=body) as response:
                assert (await response.json())["message"]["content"].startswith("You said: Hi.")
            line = await demo.log_line("agenthub.dispatch_finished")
            demo.signal(signal.SIGINT)
            status, _, err = await demo.end()
    assert line["operation"] == "chat"
    assert (status, err) == (0, "")


async def test_a_lane_that_fails(port: int) -> None:
    """A lane that gets no answer shows the reason, the others still run, and the status is 1."""
    standin = Standin(models=("talker",))
    standin.script(Fault.answer(400, "this model is shy").at("/v1/chat/completions"))
    async with running(standin) as url:
        environ = clean_environ(OLLAMA_HOST=url)
        status, out, _ = await finished("demo", "--exit", "--port", str(port), environ=environ)
    assert status == 1
    assert "failed: this model is shy" in out
    assert out.count("tokens, the first after") == 3


async def test_a_model_that_is_not_there() -> None:
    """--model with a name that the Ollama does not have is one line with the names that it has, and status 1."""
    async with running(Standin(models=("a",))) as url:
        environ = clean_environ(OLLAMA_HOST=url)
        status, out, err = await finished("demo", "--model", "b", environ=environ)
    assert (status, out) == (1, "")
    assert err == f"agenthub: the Ollama at {url} has no model b: there are a:latest\n"


async def test_what_is_no_ollama(closed_port: int) -> None:
    """Each reason for the stand-in is told from the others: nothing there, no Ollama, no model that can chat."""
    with pytest.raises(NoChat, match="no Ollama answers at"):
        await find_ollama(f"http://127.0.0.1:{closed_port}", None)
    standin = Standin(models=("only-embed",))
    async with running(standin) as url:
        with pytest.raises(NoChat, match="has no model that can chat"):
            await find_ollama(url, None)
        standin.script(Fault.answer(404).at("/api/version"))
        with pytest.raises(NoChat, match=r"is no Ollama \(404\)"):
            await find_ollama(url, None)


def test_an_answer_is_broken_between_words() -> None:
    """An answer that arrives in pieces is indented, and its lines end between words before the edge."""
    file = StringIO()
    flow = Flow(Console(file=file, width=24))
    for piece in (" one", " two", " three", " fourt", "een", " five\nsix", "", " seven"):
        flow.write(piece)
    flow.end()
    assert file.getvalue() == "     one two three\n     fourteen five\n     six seven\n"


def test_the_text_of_each_dialect() -> None:
    """The text is found in the events of both dialects; a thinking model's thoughts are text too."""
    assert text_of({"message": {"content": "a"}}) == "a"
    assert text_of({"message": {"content": "", "thinking": "b"}}) == "b"
    assert text_of({"choices": [{"delta": {"content": "c"}}]}) == "c"
    assert text_of({"choices": [{"delta": {"reasoning": "d"}}]}) == "d"
    assert text_of({"choices": [], "usage": {}}) == ""
