"""The options that make the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthub.cli.options import load_settings
from agenthub.errors import ConfigError
from tests.cli.support import invoke


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option of its own beats --set, which beats the environment, .env and the TOML file."""
    (tmp_path / "hub.toml").write_text('port = 1\nhost = "a"\napi_mode = "x"\n[caching]\npolicy = "all"\nttl_s = 7\n')
    (tmp_path / ".env").write_text("AGENTHUB_CACHING__POLICY=deterministic\nAGENTHUB_HOST=b\n")
    monkeypatch.setenv("AGENTHUB_HOST", "c")
    monkeypatch.setenv("OLLAMA_API_MODE", "y")
    settings = load_settings(
        "hub.toml", ["caching.policy=off", "port=2", "api_mode=z"], {"port": "3", "api_mode": None}
    )
    assert (settings.port, settings.host, settings.api_mode) == (3, "c", "z")
    assert (settings.caching.policy, settings.caching.ttl_s) == ("off", 7.0)


def test_set_takes_any_key_path() -> None:
    """The key is one as TOML writes it, and only the first equals sign divides."""
    settings = load_settings(None, ['models."gpt-4o".target=a=b:c', "backends.x.url=http://h:1"])
    assert settings.models["gpt-4o"].target == "a=b:c"
    assert settings.backends["x"].url == "http://h:1"


def test_set_without_a_value_is_refused_unseen() -> None:
    """What has no equals sign is not shown, since it could be a secret."""
    with pytest.raises(ConfigError, match="use KEY=VALUE") as caught:
        load_settings(None, ["sk-123"])
    assert "sk-123" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "variable", "default"),
    [
        ("--config FILE", "AGENTHUB_CONFIG", "config/agenthub.toml"),
        ("--host ADDRESS", "AGENTHUB_HOST", "127.0.0.1"),
        ("--port NUMBER", "AGENTHUB_PORT", "9090"),
        ("--api-mode MODE", "OLLAMA_API_MODE", "native"),
        ("--log-level LEVEL", "AGENTHUB_LOG__LEVEL", "info"),
        ("--log-format FORMAT", "AGENTHUB_LOG__FORMAT", "auto"),
    ],
)
async def test_serve_says_variable_and_default(option: str, variable: str, default: str) -> None:
    """Each option of `agenthub serve` names its environment variable and its default."""
    words = " ".join((await invoke("serve", "--help")).stdout.split())
    said = words[words.index(option) :].split("]")[0]
    assert f"[env: {variable}; default: {default}" in said
