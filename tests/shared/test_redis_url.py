"""Where the Redis is: which URLs are taken, what they mean, and that none is ever shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.app import make_hub
from agenthub.errors import ConfigError
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, CachingSettings, PluginsSettings, Settings, load
from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared import make_shared

TAKEN: list[tuple[str, str, str, dict[str, Any]]] = [
    ("redis://h", "h:6379 db 0", "redis", {"host": "h", "port": 6379, "db": 0}),
    ("redis://h:1/", "h:1 db 0", "redis", {"host": "h", "port": 1, "db": 0}),
    ("redis://:p@h/3", "h:6379 db 3", "redis", {"password": "p", "host": "h", "port": 6379, "db": 3}),
    (
        "redis://u:p%40%2F%25@h",
        "h:6379 db 0",
        "redis",
        {"username": "u", "password": "p@/%", "host": "h", "port": 6379, "db": 0},
    ),
    ("redis://[::1]:7/1", "[::1]:7 db 1", "redis", {"host": "::1", "port": 7, "db": 1}),
    ("rediss://h", "h:6379 db 0", "rediss", {"host": "h", "port": 6379, "db": 0}),
    (
        "rediss://h?ssl_ca_certs=/c.pem&ssl_check_hostname=False",
        "h:6379 db 0",
        "rediss",
        {"host": "h", "port": 6379, "db": 0, "ssl_ca_certs": "/c.pem", "ssl_check_hostname": False},
    ),
    (
        "rediss://h?ssl_cert_reqs=none",
        "h:6379 db 0",
        "rediss",
        {"host": "h", "port": 6379, "db": 0, "ssl_cert_reqs": "none", "ssl_check_hostname": False},
    ),
    ("unix:///run/r.sock", "/run/r.sock db 0", "unix", {"path": "/run/r.sock", "db": 0}),
    (
        "unix://u:p@/run/r.sock?db=2",
        "/run/r.sock db 2",
        "unix",
        {"username": "u", "password": "p", "path": "/run/r.sock", "db": 2},
    ),
]
REFUSED = [
    "h:6379",
    "http://u:sesame@h",
    "redis:sesame",
    "redis://",
    "redis://:sesame@",
    "redis://:sesame@h:port",
    "redis://:sesame@h:70000",
    "redis://:sesame@h/x",
    "redis://:sesame@h/-1",
    "redis://:sesame@h/1/2",
    "redis://:sesame@h/٣",
    "redis://:sesame@h?socket_timeout=60",
    "redis://:sesame@h?ssl_ca_certs=/c.pem",
    "redis://:se same@h",
    "redis://:sesame@h#x",
    "redis://:sesame@[::1",
    "rediss://:sesame@h?ssl_cert_reqs=maybe",
    "rediss://:sesame@h?ssl_check_hostname=maybe",
    "rediss://:sesame@h?sesame",
    "unix://:sesame@",
    "unix://:sesame@h/path",
    "unix:///path?db=x",
    "\x00sesame",
]


@pytest.mark.parametrize(("url", "name", "scheme", "options"), TAKEN, ids=[taken[0] for taken in TAKEN])
def test_what_is_taken(url: str, name: str, scheme: str, options: dict[str, Any]) -> None:
    """User, password, port and database, TLS and its files, a socket; the name that is shown has no password."""
    server = parse_redis_url(url)
    assert (server.name, server.scheme, dict(server.options)) == (name, scheme, options)
    assert "p@" not in repr(server)
    assert "password" not in repr(server)
    CachingSettings(backend="redis", url=url)


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused(url: str, tmp_path: Path) -> None:
    """Anything else stops the start with one line, which says where it stands, what is allowed, and not what it is."""
    expected = "use redis://user:password@host:6379/0, rediss:// for TLS or unix:///path?db=0"
    with pytest.raises(ConfigError) as made:
        CachingSettings(backend="redis", url=url)
    with pytest.raises(ConfigError) as loaded:
        load(None, {"AGENTHUB_CACHING__URL": url}, directory=tmp_path)
    for error in (made.value, loaded.value):
        assert str(error).endswith(f"url: the URL (secret, not shown) is not allowed: {expected}")
        assert "sesame" not in str(error)
    assert "AGENTHUB_CACHING__URL" in str(loaded.value) or "environment" in str(loaded.value)


@given(st.text(max_size=30) | st.text("redis:/@?#[]=&%0", max_size=30).map("redis://".__add__))
def test_any_text_is_taken_or_refused(text: str) -> None:
    """Never another exception, and what is refused is not repeated."""
    try:
        parse_redis_url(text)
    except ValueError as error:
        assert len(text) < 8 or text not in str(error)  # noqa: PT017


def test_empty_is_the_usual_place() -> None:
    """Without a URL it is this machine's Redis; with the cache in memory it is none."""
    shared = make_shared(CachingSettings(backend="redis"))
    assert shared is not None
    assert shared.link.server.name == "127.0.0.1:6379 db 0"
    assert make_shared(CachingSettings(url="redis://h")) is None


def test_without_redis_py_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first request."""
    for name in [name for name in sys.modules if name == "redis" or name.startswith("redis.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    settings = Settings(
        backends={"ollama": BackendSettings(url="http://127.0.0.1:1")}, caching=CachingSettings(backend="redis")
    )
    with pytest.raises(ConfigError, match=r"pip install 'redis>=8,<9'"):
        make_hub(settings, make_plugins(PluginsSettings()))
