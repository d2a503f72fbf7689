"""``agenthub plugins``."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from agenthub import __version__
from tests.cli.support import clean_environ, finished, invoke


def install(folder: Path, name: str, code: str) -> None:
    """Put a distribution with one entry point into ``folder``, as pip would."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[agenthub]\n{module} = {module}\n")


async def test_what_is_installed() -> None:
    """Each plugin with its distribution, what it brings and its state; then the chain in the order of the setting."""
    result = await invoke("plugins", "--set", "middleware=caching,logging")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0].split() == ["plugin", "distribution", "brings", "state"]
    assert (
        lines[1].split()
        == f"builtin agenthub {__version__} middleware logging limits caching failover circuit_breaker loaded".split()
    )
    for kind in ("native", "openai"):
        assert f"{kind} agenthub-adapter-{kind} {__version__} adapter {kind} loaded" in (
            " ".join(line.split()) for line in lines
        )
    at = lines.index("Middleware around each dispatch, outermost first:")
    assert lines[at + 1 :] == ["  1. caching, from builtin", "  2. logging, from builtin"]


async def test_a_third_plugin_and_a_broken_one(tmp_path: Path) -> None:
    """A real distribution with middleware is listed with what it brings; one that fails to load with the reason."""
    install(
        tmp_path,
        "acme-audit",
        "from agenthub import MiddlewareType, hookimpl\n\n\n@hookimpl\ndef agenthub_register_middleware():\n"
        "    return [MiddlewareType('audit', lambda context: None)]\n",
    )
    install(tmp_path, "acme-torn", "raise RuntimeError('no licence')\n")
    environ = clean_environ(PYTHONPATH=str(tmp_path))
    status, out, err = await finished("plugins", "--set", "middleware=audit,logging", environ=environ)
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "acme_audit acme-audit 1.2 middleware audit loaded" in rows
    assert "acme_torn acme-torn 1.2 - broken: RuntimeError('no licence')" in rows
    assert "1. audit, from acme_audit" in rows
    assert status == 1
    assert err.splitlines() == [
        "agenthub: the hub will not start with the broken plugin acme_torn: repair or remove it, "
        'or set plugins.on_error = "skip"'
    ]
    skipping = ("--set", "plugins.on_error=skip")
    assert (await finished("plugins", *skipping, environ=environ))[::2] == (0, "")


async def test_half_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one of the two adapters missing the other mode works, and the line that installs it is shown."""
    without = [entry for entry in entry_points(group="agenthub") if entry.name != "openai"]
    monkeypatch.setattr("agenthub.plugins.entry_points", lambda group: without)
    well, mode = await invoke("plugins"), await invoke("plugins", "--set", "api_mode=openai")
    assert well.exit_code == 0
    assert "The openai adapter is not installed." in well.stdout
    assert "plugins/agenthub-adapter-openai" in well.stdout
    assert mode.exit_code == 1
    assert mode.stderr == "agenthub: the hub will not start: no adapter openai, which api_mode asks for\n"


async def test_a_disabled_plugin() -> None:
    """A plugin in plugins.disabled is listed as disabled and brings nothing."""
    result = await invoke("plugins", "--set", "plugins.disabled=openai")
    assert f"openai agenthub-adapter-openai {__version__} - disabled" in " ".join(result.stdout.split())
    assert "The openai adapter is switched off by plugins.disabled." in result.stdout
    assert result.exit_code == 0


async def test_middleware_that_nobody_brings() -> None:
    """A name in the middleware setting that no plugin brings is marked in the chain and fails."""
    result = await invoke("plugins", "--set", "middleware=logging,audit")
    assert "  2. audit, which no plugin brings\n" in result.stdout
    assert (result.exit_code, result.stderr) == (
        1,
        "agenthub: the hub will not start: no plugin brings the middleware audit\n",
    )
