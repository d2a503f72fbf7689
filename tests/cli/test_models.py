"""``agenthub models``."""

from __future__ import annotations

import pytest

from agenthub.cli.models import format_bytes
from agenthub.standin import Standin, running
from tests.cli.support import invoke


async def test_the_union_of_all_backends() -> None:
    """Each model once, with every backend that has it; aliases with their targets, also one that nobody has."""
    async with running(Standin(models=("llama", "shared"))) as first, running(Standin(models=("shared",))) as second:
        backends = ("--set", f"backends.a.url={first}", "--set", f"backends.b.url={second}")
        aliases = ("--set", "models.gpt.target=llama", "--set", "models.lost.target=nope")
        result = await invoke("models", *backends, *aliases)
    rows = [line.split("  ") for line in result.stdout.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["model", "backends", "size", "modified"],
        ["gpt -> llama", "a", "3.2 MB", "2026-01-01 00:00"],
        ["llama:latest", "a", "3.2 MB", "2026-01-01 00:00"],
        ["shared:latest", "a, b", "3.2 MB", "2026-01-01 00:00"],
        ["lost -> nope", "none has it"],
    ]
    assert (result.exit_code, result.stderr) == (0, "")


async def test_a_backend_that_is_down(closed_port: int) -> None:
    """The others' models are listed, the one without a list is named on stderr; status 1 only if none gave one."""
    down = ("--set", f"backends.down.url=http://127.0.0.1:{closed_port}")
    async with running(Standin(models=("llama",))) as url:
        some = await invoke("models", *down, "--set", f"backends.up.url={url}")
    none = await invoke("models", *down)
    assert "llama:latest" in some.stdout
    assert "agenthub: backend down gave no list" in some.stderr
    assert (some.exit_code, none.exit_code, none.stdout) == (0, 1, "")


async def test_no_models_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an Ollama that has no model, the command that gets one is shown."""
    async with running(Standin(models=())) as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        result = await invoke("models")
    assert (result.exit_code, result.stdout) == (0, "No models yet. Get one: ollama pull llama3.2\n")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, ""), (999, "999 B"), (1000, "1.0 kB"), (3_236_875, "3.2 MB"), (2_019_393_189, "2.0 GB")],
)
def test_sizes(size: int, text: str) -> None:
    """Sizes are in decimal units, as Ollama shows them."""
    assert format_bytes(size) == text


async def test_a_name_that_a_terminal_would_obey() -> None:
    """What a server calls its models is shown and does nothing else."""
    async with running(Standin(models=("red\x1b[31m\x07",))) as url:
        result = await invoke("models", "--set", f"backends.a.url={url}")
    assert "red\\x1b[31m\\x07" in result.stdout
    assert "\x1b" not in result.stdout
