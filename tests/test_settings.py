from __future__ import annotations

import copy
import json
import re
import tomllib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.errors import ConfigError
from agenthub.settings import (
    BackendSettings,
    CachingSettings,
    LogSettings,
    ModelSettings,
    Secret,
    Settings,
    describe,
    load,
)
from agenthub.settings.keys import KeyDigest
from agenthub.settings.sources import parse_ollama_host

ROOT = Path(__file__).parents[1]
OLLAMA = BackendSettings(url="http://127.0.0.1:11434")
GPU = '[backends.gpu]\nurl = "http://gpu:11434"\n'
HIDDEN = "sk-Zx81-do-not-show"


@pytest.fixture
def load_toml(tmp_path: Path) -> Any:
    """Loads a TOML text as config/agenthub.toml of an otherwise empty working directory, with a .env text if given."""

    def load_text(
        toml: str | bytes = "",
        environ: Mapping[str, str] | None = None,
        *,
        dotenv: str | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Settings:
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config/agenthub.toml").write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv)
        return load(None, environ or {}, overrides=overrides or {}, directory=tmp_path)

    return load_text


# --- layers and their order


def test_nothing_configured(tmp_path: Path) -> None:
    """With no file and no variable the hub has its defaults and fronts the local Ollama."""
    settings = load(None, {}, directory=tmp_path)
    assert settings == Settings(backends={"ollama": OLLAMA})
    assert settings.sources == {}


def test_later_layers_win(load_toml: Any) -> None:
    """Defaults < TOML < .env < environment < command line, and sources says which layer each value is from."""
    settings = load_toml(
        "port = 1\nstrict = true\ndrain_s = 1\n[caching]\nttl_s = 1\nmax_bytes = 1",
        {"AGENTHUB_DRAIN_S": "3", "AGENTHUB_CACHING__TTL_S": "3", "HOME": "/nowhere"},
        dotenv="AGENTHUB_STRICT=no\nAGENTHUB_DRAIN_S=2\nAGENTHUB_CACHING__TTL_S=2\nOTHER=1\n",
        overrides={"caching.ttl_s": 4, "log.level": None},
    )
    assert settings == Settings(
        port=1,
        strict=False,
        drain_s=3.0,
        caching=CachingSettings(ttl_s=4.0, max_bytes=1),
        backends={"ollama": OLLAMA},
    )
    assert settings.sources == {
        "port": "config/agenthub.toml",
        "strict": ".env: AGENTHUB_STRICT",
        "drain_s": "environment: AGENTHUB_DRAIN_S",
        "caching.ttl_s": "command line",
        "caching.max_bytes": "config/agenthub.toml",
    }


def test_sources_do_not_take_part_in_equality(load_toml: Any) -> None:
    """The same value from another place makes equal settings."""
    assert load_toml("port = 9090") == load_toml("", {"AGENTHUB_PORT": "9090"})


@pytest.mark.parametrize(
    ("path", "environ", "dotenv", "port"),
    [
        (Path("named.toml"), {"AGENTHUB_CONFIG": "by_env.toml"}, "", 1),
        (None, {"AGENTHUB_CONFIG": "by_env.toml"}, "AGENTHUB_CONFIG=by_dotenv.toml", 2),
        (None, {"AGENTHUB_CONFIG": ""}, "AGENTHUB_CONFIG=by_dotenv.toml", 3),
        (None, {}, "", 4),
    ],
)
def test_which_file(tmp_path: Path, path: Path | None, environ: dict[str, str], dotenv: str, port: int) -> None:
    """The file is the one named, else AGENTHUB_CONFIG of the environment, else that of .env, else the default one."""
    (tmp_path / "config").mkdir()
    for number, name in enumerate(["named.toml", "by_env.toml", "by_dotenv.toml", "config/agenthub.toml"], 1):
        (tmp_path / name).write_text(f"port = {number}")
    (tmp_path / ".env").write_text(dotenv)
    assert load(path, environ, directory=tmp_path).port == port


@pytest.mark.parametrize("environ", [{}, {"AGENTHUB_CONFIG": "gone.toml"}], ids=["argument", "AGENTHUB_CONFIG"])
def test_named_file_must_exist(tmp_path: Path, environ: dict[str, str]) -> None:
    """A file that was asked for and is missing stops the start."""
    with pytest.raises(ConfigError, match=r"^gone\.toml: cannot be read: No such file or directory$"):
        load(None if environ else Path("gone.toml"), environ, directory=tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    """Any other trouble with a file that was asked for is a ConfigError in the system's words."""
    with pytest.raises(ConfigError, match=r"^x+: cannot be read: File name too long$"):
        load(Path("x" * 300), {}, directory=tmp_path)


def test_absolute_path(tmp_path: Path) -> None:
    """An absolute path is taken as it is, whatever the directory."""
    (tmp_path / "a.toml").write_text("port = 7")
    assert load(tmp_path / "a.toml", {}, directory=tmp_path / "elsewhere").port == 7


def test_folders_in_the_way(tmp_path: Path) -> None:
    """A virtualenv folder called .env is no settings file; a folder named as the config is an error."""
    (tmp_path / ".env").mkdir()
    assert load(None, {}, directory=tmp_path).port == 9090
    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: Is a directory$"):
        load(Path(".env"), {}, directory=tmp_path)


def test_byte_order_mark(load_toml: Any) -> None:
    """Files written by a Windows editor load: a mark at the start, CR LF at the ends."""
    assert load_toml(b"\xef\xbb\xbfport = 1\r\nstrict = true\r\n", dotenv="\ufeffAGENTHUB_PORT=2\r\n").port == 2


def test_dotenv_is_taken_as_written(load_toml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of .env keep ${NAME}, and os.environ is neither read nor written."""
    monkeypatch.setenv("WHO", "leaked")
    dotenv = "export AGENTHUB_HOST='${WHO}' # ours\nAGENTHUB_API_MODE=\"auto\"\nweird line = = =\n"
    settings = load_toml(dotenv=dotenv)
    assert (settings.host, settings.api_mode) == ("${WHO}", "auto")


def test_overrides_take_quoted_keys(load_toml: Any) -> None:
    """A command line key is written as in TOML, so a name with dots or colons can be quoted; texts are parsed."""
    settings = load_toml(GPU, overrides={'models."llama3:8b".target': "x", "port": "0", "middleware": "caching"})
    assert settings.models == {"llama3:8b": ModelSettings(target="x")}
    assert (settings.port, settings.middleware) == (0, ("caching",))
    assert settings.sources['models."llama3:8b".target'] == "command line"


# --- names in the environment


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OLLAMA_API_MODE": "openai"}, "openai"),
        ({"OLLAMA_API_MODE": "openai", "AGENTHUB_API_MODE": "auto"}, "auto"),
        ({"OLLAMA_API_MODE": ""}, "from-dotenv"),
        ({}, "from-dotenv"),
    ],
)
def test_ollama_api_mode(load_toml: Any, environ: dict[str, str], expected: str) -> None:
    """OLLAMA_API_MODE is api_mode: a later layer wins, in one layer AGENTHUB_API_MODE does, empty is unset."""
    assert load_toml("api_mode = 'toml'", environ, dotenv="AGENTHUB_API_MODE=from-dotenv").api_mode == expected


def test_environment_names_ignore_case(load_toml: Any) -> None:
    """Names match in any case; a table key is lower case unless a file has it in another spelling."""
    settings = load_toml(
        '[backends.GPU]\nurl = "http://a"\nheaders = { X-Team = "a" }\n[models."GPT-4o"]\ntarget = "x"',
        {
            "agenthub_Log__Level": "debug",
            "AGENTHUB_BACKENDS__gpu__URL": "http://b/",
            "AGENTHUB_BACKENDS__GPU__HEADERS__X-TEAM": "b",
            "AGENTHUB_BACKENDS__NEW__URL": "http://c",
            "AGENTHUB_MODELS__GPT-4O__TARGET": "y",
        },
    )
    assert settings.log == LogSettings(level="debug")
    assert settings.models == {"GPT-4o": ModelSettings(target="y")}
    assert settings.backends == {
        "GPU": BackendSettings(url="http://b", headers={"X-Team": "b"}),
        "new": BackendSettings(url="http://c"),
    }


@pytest.mark.parametrize("order", [1, -1])
def test_two_spellings_of_one_name(load_toml: Any, order: int) -> None:
    """When one layer has a name twice, the upper-case one wins in whatever order they come."""
    names = [("AGENTHUB_PORT", "1"), ("agenthub_port", "2")][::order]
    assert load_toml("", dict(names)).port == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("AGENTHUB_STRICT", "true", {"strict": True}),
        ("AGENTHUB_STRICT", "YES", {"strict": True}),
        ("AGENTHUB_STRICT", "on", {"strict": True}),
        ("AGENTHUB_STRICT", "1", {"strict": True}),
        ("AGENTHUB_STRICT", "0", {"strict": False}),
        ("AGENTHUB_STRICT", "Off", {"strict": False}),
        ("AGENTHUB_STRICT", "no", {"strict": False}),
        ("AGENTHUB_STRICT", " false ", {"strict": False}),
        ("AGENTHUB_DRAIN_S", "1e1", {"drain_s": 10.0}),
        ("AGENTHUB_HOST", "1", {"host": "1"}),
        ("AGENTHUB_MIDDLEWARE", "logging, caching", {"middleware": ("logging", "caching")}),
        ("AGENTHUB_MIDDLEWARE", "", {"middleware": ()}),
    ],
)
def test_texts_become_the_fields_type(load_toml: Any, name: str, text: str, expected: dict[str, Any]) -> None:
    """A text from the environment is parsed to what its field holds."""
    assert load_toml("", {name: text}) == attrs.evolve(Settings(backends={"ollama": OLLAMA}), **expected)


def test_options_from_every_layer_add_up(load_toml: Any) -> None:
    """Model options are any JSON values, entry by entry: JSON in the environment, else plain text; lists are frozen."""
    settings = load_toml(
        GPU + '[models.a]\ntarget = "x"\noptions = { num_ctx = 1, stop = ["a"], extra = { b = [1] } }',
        {"AGENTHUB_MODELS__A__OPTIONS__NUM_CTX": "8192", "AGENTHUB_MODELS__A__OPTIONS__FORMAT": "plain"},
    )
    options = {"num_ctx": 8192, "stop": ("a",), "extra": {"b": (1,)}, "format": "plain"}
    assert settings.models["a"].options == options


# --- OLLAMA_HOST


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("example.com:", "http://example.com:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://0.0.0.0:11434/", "http://127.0.0.1:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]", "http://[::1]:11434"),
        ("[::]:99", "http://[::1]:99"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
        ("'1.2.3.4'", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("example.com/a/b/", "http://example.com:11434/a/b"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_ollama_host_syntax(load_toml: Any, text: str, url: str) -> None:
    """OLLAMA_HOST means what Ollama's own client makes of it (its TestHost table), but always a URL to reach."""
    assert parse_ollama_host(text) == url
    assert load_toml("", {"OLLAMA_HOST": text}).backends == {"ollama": BackendSettings(url=url)}


@pytest.mark.parametrize(
    ("environ", "dotenv", "url", "source"),
    [
        ({"OLLAMA_HOST": "a"}, "OLLAMA_HOST=b", "http://a:11434", "environment: OLLAMA_HOST"),
        ({"OLLAMA_HOST": ""}, "OLLAMA_HOST=b", "http://b:11434", ".env: OLLAMA_HOST"),
    ],
)
def test_ollama_host_layers(load_toml: Any, environ: dict[str, str], dotenv: str, url: str, source: str) -> None:
    """The environment's OLLAMA_HOST goes before that of .env; an empty one is as good as none."""
    settings = load_toml("[backends]", environ, dotenv=dotenv)
    assert settings.backends["ollama"].url == url
    assert settings.sources == {"backends.ollama.url": source}


@pytest.mark.parametrize(
    ("toml", "environ"),
    [
        ("", {"AGENTHUB_BACKENDS__OLLAMA__FLAVOUR": "generic"}),
        ("", {"AGENTHUB_BACKENDS__OLLAMA__FLAVOUR": "generic", "OLLAMA_HOST": "gpu"}),
        ("[backends.ollama]\nflavour = 'generic'", {"OLLAMA_HOST": "gpu"}),
        ("[backends.ollama]", {"OLLAMA_HOST": "gpu", "AGENTHUB_BACKENDS__OLLAMA__FLAVOUR": "generic"}),
    ],
)
def test_settings_beside_ollama_host(load_toml: Any, toml: str, environ: dict[str, str]) -> None:
    """What a table "ollama" says goes with the URL of OLLAMA_HOST, or its default, where it has none of its own."""
    url = "http://gpu:11434" if "OLLAMA_HOST" in environ else OLLAMA.url
    assert load_toml(toml, environ).backends == {"ollama": BackendSettings(url=url, flavour="generic")}


def test_a_url_of_its_own_hides_ollama_host(load_toml: Any) -> None:
    """And with another backend in the settings OLLAMA_HOST fills in nothing."""
    environ = {"OLLAMA_HOST": "gpu", "AGENTHUB_BACKENDS__OLLAMA__URL": "http://own:1"}
    assert load_toml("", environ).backends == {"ollama": BackendSettings(url="http://own:1")}
    with pytest.raises(ConfigError, match=r"backends\.ollama\.url: is missing"):
        load_toml(GPU, {"OLLAMA_HOST": "gpu", "AGENTHUB_BACKENDS__OLLAMA__FLAVOUR": "generic"})


@pytest.mark.parametrize(
    ("toml", "environ", "overrides"),
    [
        (GPU, {}, {}),
        ("", {"AGENTHUB_BACKENDS__GPU__URL": "http://gpu:11434"}, {}),
        ("", {}, {"backends.gpu.url": "http://gpu:11434"}),
    ],
    ids=["file", "environment", "command line"],
)
def test_ollama_host_gives_way(
    load_toml: Any, toml: str, environ: dict[str, str], overrides: dict[str, object]
) -> None:
    """OLLAMA_HOST, even a wrong one, does not matter once any layer configures a backend."""
    settings = load_toml(toml, {**environ, "OLLAMA_HOST": "a:b:c:d"}, overrides=overrides)
    assert settings.backends == {"gpu": BackendSettings(url="http://gpu:11434")}


# --- errors


A_URL = "use an http:// or https:// URL with a host and no credentials, query or fragment"
TOML_ERRORS = [
    ('caching.policy = "sometimes"', 'caching.policy: "sometimes" is not allowed: use "deterministic", "all" or "off"'),
    ('plugins.on_error = ""', 'plugins.on_error: "" is not allowed: use "stop" or "skip"'),
    ('host = ""', 'host: "" is not allowed: use a text that is not empty'),
    ("host = 1", "host: 1 is not allowed: use a text that is not empty"),
    ("host = 2020-01-01", "host: a date is not allowed: use a text that is not empty"),
    ("port = 65536", "port: 65536 is not allowed: use a whole number, 0 to 65535"),
    ("port = -1", "port: -1 is not allowed: use a whole number, 0 to 65535"),
    ("port = true", "port: true is not allowed: use a whole number, 0 to 65535"),
    ("port = 1.0", "port: 1.0 is not allowed: use a whole number, 0 to 65535"),
    ('port = "9090"', 'port: "9090" is not allowed: use a whole number, 0 to 65535'),
    ("port = {}", "port: a table is not allowed: use a whole number, 0 to 65535"),
    (f"port = 0x{'f' * 9999}", "port: so large a number is not allowed: use a whole number, 0 to 65535"),
    ("max_body_bytes = -1", "max_body_bytes: -1 is not allowed: use a whole number of bytes, 0 or more"),
    ("circuit_breaker.failure_threshold = 0",
     "circuit_breaker.failure_threshold: 0 is not allowed: use a whole number, 1 or more"),
    ("drain_s = nan", "drain_s: nan is not allowed: use a number of seconds, 0 or more"),
    ("drain_s = inf", "drain_s: inf is not allowed: use a number of seconds, 0 or more"),
    (f"drain_s = 1{'0' * 400}", "drain_s: so large a number is not allowed: use a number of seconds, 0 or more"),
    ("drain_s = -0.5", "drain_s: -0.5 is not allowed: use a number of seconds, 0 or more"),
    ("drain_s = true", "drain_s: true is not allowed: use a number of seconds, 0 or more"),
    ("strict = 1", "strict: 1 is not allowed: use true or false"),
    ('strict = "true"', 'strict: "true" is not allowed: use true or false'),
    ('middleware = "logging"', 'middleware: "logging" is not allowed: use a list of texts, none empty and none twice'),
    ('middleware = ["a", "a"]', 'middleware: "a" is not allowed: use a list of texts, none empty and none twice'),
    ("middleware = [1]", "middleware: 1 is not allowed: use a list of texts, none empty and none twice"),
    (f'log.level = "{"x" * 99}"',
     f'log.level: "{"x" * 60}..." is not allowed: use "debug", "info", "warning" or "error"'),
    (r'log.level = "a\nb\u001b[1m\u2028"',
     r'log.level: "a\nb\u001b[1m\u2028" is not allowed: use "debug", "info", "warning" or "error"'),
    ("log = 1", "log: 1 is not allowed: use a table with the keys level, format, content, buffer_bytes"),
    ("plugins = []", "plugins: a list is not allowed: use a table with the keys disabled, on_error"),
    ("clients = []", "clients: a list is not allowed: use a table for each NAME with the keys api_mode, strict,"
     " api_key, api_key_file, models, operations, requests_per_minute, max_concurrency, auto_enhance"),
    ("clients.a = 'x'", "clients.a: a text is not allowed: use a table with the keys api_mode, strict,"
     " api_key, api_key_file, models, operations, requests_per_minute, max_concurrency, auto_enhance"),
    ("[backends.gpu]", f"backends.gpu.url: is missing: {A_URL}"),
    ("[backends.'a b']", 'backends."a b": this name is not allowed: use letters, digits, "_", "." and "-"'),
    ("[clients.'']", 'clients."": this name is not allowed: use a name that is not empty'),
    ("backends.a.url = 'ftp://a'", f'backends.a.url: "ftp://a" is not allowed: {A_URL}'),
    ("backends.a.url = 'gpu:11434'", f'backends.a.url: "gpu:11434" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://'", f'backends.a.url: "http://" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://a:99999'", f'backends.a.url: "http://a:99999" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://[::1'", f'backends.a.url: "http://[::1" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://a b'", f'backends.a.url: "http://a b" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://xn--\u6a21'", f'backends.a.url: "http://xn--\u6a21" is not allowed: {A_URL}'),
    ("backends.a.url = 'http://a?k=1'", f"backends.a.url: the URL is not allowed: {A_URL}"),
    ("backends.a.url = 'http://u:p@a'",
     "backends.a.url: credentials in the URL are not taken: use api_key or headers"),
    ("default_backend = 'gpu'", 'default_backend: "gpu" is not a configured backend: use "ollama"'),
    (GPU + "[models.a]\ntarget = 'x'\nbackends = ['gpu', 'cpu']",
     'models.a.backends: "cpu" is not a configured backend: use "gpu"'),
    (GPU + "[models.a]\ntarget = 'x'\noptions = { t = nan }",
     "models.a.options.t: nan is not allowed: use a table of JSON values: texts, finite numbers, booleans, lists and"
     " tables"),
    (GPU + "[models.a]\ntarget = 'x'\noptions = { t = [00:00:00] }",
     "models.a.options.t: a list is not allowed: use a table of JSON values: texts, finite numbers, booleans, lists and"
     " tables"),
    ("prot = 1", "prot: unknown key: did you mean port?"),
    ("caching.polcy = 1", "caching.polcy: unknown key: did you mean caching.policy?"),
    ("backends.a.modles = 1", "backends.a.modles: unknown key: did you mean backends.a.models?"),
    ("caching.where = 1", "caching.where: unknown key: use policy, ttl_s, max_bytes, replay, backend, url"),
    ("sources = {}", "sources: unknown key: use host, port, api_mode, middleware, default_backend, strict,"
     " sidecar, max_body_bytes, drain_s, workers, insecure, sse_ping_s, log, backends, models, clients, balancing,"
     " retries, cors, protection, health, caching, circuit_breaker, enhancement, plugins"),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "expected"), TOML_ERRORS)
def test_wrong_toml(load_toml: Any, toml: str, expected: str) -> None:
    """A mistake in the file is one line: the file, the key path, what is wrong, what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load_toml(toml)
    assert str(caught.value) == f"config/agenthub.toml: {expected}"


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (b"port = \xff", "cannot be read: the file is not UTF-8 text"),
        (b"port = 1\nport = 2\n", "not valid TOML: "),
        (b"a = " + b"[" * 9999, "not valid TOML: "),
        (b"a = " + b"9" * 9999, "not valid TOML: "),
    ],
    ids=["not UTF-8", "key twice", "too deep", "too long a number"],
)
def test_files_that_are_no_toml(load_toml: Any, toml: bytes, expected: str) -> None:
    """What the TOML parser stops at is a ConfigError that names the file."""
    with pytest.raises(ConfigError, match=rf"^config/agenthub\.toml: {re.escape(expected)}"):
        load_toml(toml)


VARIABLE_ERRORS = [
    ("AGENTHUB_PORT", "abc", 'port: "abc" is not allowed: use a whole number, 0 to 65535'),
    ("AGENTHUB_PORT", "", 'port: "" is not allowed: use a whole number, 0 to 65535'),
    ("AGENTHUB_PORT", "1.5", 'port: "1.5" is not allowed: use a whole number, 0 to 65535'),
    ("AGENTHUB_STRICT", "maybe", 'strict: "maybe" is not allowed: use true or false'),
    ("AGENTHUB_DRAIN_S", "nan", "drain_s: nan is not allowed: use a number of seconds, 0 or more"),
    ("AGENTHUB_DRAIN_S", "-inf", "drain_s: -inf is not allowed: use a number of seconds, 0 or more"),
    ("AGENTHUB_DRAIN_S", "30s", 'drain_s: "30s" is not allowed: use a number of seconds, 0 or more'),
    ("AGENTHUB_HOST", "", 'host: "" is not allowed: use a text that is not empty'),
    ("AGENTHUB_LOG", "x", "log: a text is not allowed: use a table with the keys level, format, content, buffer_bytes"),
    ("AGENTHUB_PORT__X", "1", "port: a table is not allowed: use a whole number, 0 to 65535"),
    ("AGENTHUB_PROT", "1", "prot: unknown key: did you mean AGENTHUB_PORT?"),
    ("AGENTHUB_CACHING_POLICY", "all", "caching_policy: unknown key: did you mean AGENTHUB_CACHING__POLICY?"),
    ("AGENTHUB_CACHING__BACKEND", "x", 'caching.backend: "x" is not allowed: use "memory" or "redis"'),
    ("AGENTHUB_BACKENDS__A__KEY", "x", "backends.a.key: unknown key: did you mean AGENTHUB_BACKENDS__A__API_KEY?"),
    ("AGENTHUB_BACKENDS__A__API_KEY", "x", f"backends.a.url: is missing: {A_URL}"),
    ("AGENTHUB_DEFAULT_BACKEND", "x", 'default_backend: "x" is not a configured backend: use "ollama"'),
    ("OLLAMA_HOST", "a:b", f'backends.ollama.url: "http://a:b" is not allowed: {A_URL}'),
    ("OLLAMA_HOST", "ftp://a", f'backends.ollama.url: "ftp://a:11434" is not allowed: {A_URL}'),
    ("OLLAMA_HOST", "u:p@a", "backends.ollama.url: credentials in the URL are not taken: use api_key or headers"),
]  # fmt: skip


@pytest.mark.parametrize("source", [".env", "environment"])
@pytest.mark.parametrize(("name", "text", "expected"), VARIABLE_ERRORS)
def test_wrong_variables(load_toml: Any, source: str, name: str, text: str, expected: str) -> None:
    """A mistake in .env or the environment is one line that names the variable."""
    layer: dict[str, Any] = {"environ": {name: text}} if source == "environment" else {"dotenv": f"{name}={text}\n"}
    with pytest.raises(ConfigError) as caught:
        load_toml("", **layer)
    assert str(caught.value) == f"{source}: {name}: {expected}"


@pytest.mark.parametrize(
    ("dotenv", "expected"),
    [
        ("A=1\n\n# ours\n\nexport AGENTHUB_PORT 9090\n", ".env: line 5 cannot be read: use NAME=value, quotes closed"),
        (f'AGENTHUB_HOST="{HIDDEN}\n', ".env: line 1 cannot be read: use NAME=value, quotes closed"),
        ("AGENTHUB_PORT\n", ".env: AGENTHUB_PORT: port: nothing is not allowed: use a whole number, 0 to 65535"),
    ],
)
def test_broken_dotenv_lines(load_toml: Any, dotenv: str, expected: str) -> None:
    """A line of .env that is ours and cannot be read stops the start; its text is not shown."""
    with pytest.raises(ConfigError) as caught:
        load_toml(dotenv=dotenv)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"port": 70000}, "command line: port: 70000 is not allowed: use a whole number, 0 to 65535"),
        ({"prt": 1}, "command line: prt: unknown key: did you mean port?"),
        ({"a b": 1}, 'command line: a key is not a key path: use one as TOML writes it, as models."a:8b".target'),
        ({"": 1}, 'command line: a key is not a key path: use one as TOML writes it, as models."a:8b".target'),
    ],
)
def test_wrong_overrides(load_toml: Any, overrides: dict[str, object], expected: str) -> None:
    """A mistake on the command line says so."""
    with pytest.raises(ConfigError) as caught:
        load_toml(overrides=overrides)
    assert str(caught.value) == expected


def test_hidden_mistakes_are_found(load_toml: Any) -> None:
    """A wrong value stops the start even where a later layer would hide it."""
    with pytest.raises(ConfigError, match=r"^config/agenthub\.toml: port: 70000"):
        load_toml("port = 70000", {"AGENTHUB_PORT": "1"})


def test_settings_made_by_hand_obey_the_same_rules() -> None:
    """The classes themselves refuse what the loader refuses, and name the field."""
    with pytest.raises(ConfigError, match=r"^port: 70000 is not allowed: use a whole number, 0 to 65535$"):
        Settings(port=70000)
    with pytest.raises(ConfigError, match=r"^headers\.A: the value"):
        BackendSettings(url="http://a", headers={"A": "x\r\nB: y"})
    with pytest.raises(ConfigError, match=r"^backends\.a b: this name is not allowed: use letters"):
        Settings(backends={"a b": OLLAMA})
    wrong: Any = {"url": "http://a"}
    with pytest.raises(ConfigError, match=r"^backends: a table is not allowed: use a table with the keys url"):
        Settings(backends={"a": wrong})


# --- secrets


def test_secret() -> None:
    """A secret shows as stars, compares by its text, and is falsy when empty."""
    secret = Secret(HIDDEN)
    assert (repr(secret), str(secret), f"{secret}", secret.reveal()) == ("********", "********", "********", HIDDEN)
    assert secret == Secret(HIDDEN) == copy.deepcopy(secret)
    assert secret != Secret("other")
    assert secret != HIDDEN
    assert len({secret, Secret(HIDDEN), Secret("\udcff")}) == 2
    assert secret
    assert not Secret()


def test_secrets_are_kept_and_not_shown(load_toml: Any) -> None:
    """Keys and header values reach the backend's settings, and no repr shows them."""
    settings = load_toml(
        GPU + f'api_key = "{HIDDEN}"\nheaders = {{ X-A = "{HIDDEN}" }}',
        {"AGENTHUB_BACKENDS__GPU__HEADERS__X-B": HIDDEN},
    )
    backend = settings.backends["gpu"]
    assert backend.api_key.reveal() == HIDDEN
    assert {name: secret.reveal() for name, secret in backend.headers.items()} == {"X-A": HIDDEN, "x-b": HIDDEN}
    assert HIDDEN not in repr(settings) + str(attrs.asdict(settings)) + str(attrs.asdict(backend))
    assert HIDDEN not in repr(settings.sources)


WRONG_SECRETS = [
    f'api_key = ["{HIDDEN}"]',
    f'api_key = {{ value = "{HIDDEN}" }}',
    f'api_key = "{HIDDEN}\\n"',
    f'api_key = "{HIDDEN}',
    f"api_key = {HIDDEN}",
    f"api_key = '{HIDDEN}' '{HIDDEN}'",
    f"api_key: '{HIDDEN}'",
    f'headers = "Authorization: {HIDDEN}"',
    f'headers = ["Authorization: {HIDDEN}"]',
    f'headers = {{ Authorization = ["{HIDDEN}"] }}',
    f'headers = {{ Authorization = "{HIDDEN}\\r\\nX: y" }}',
    f'headers = {{ "Authorization: {HIDDEN}" = "" }}',
    f'headers = {{ "" = "{HIDDEN}" }}',
    f'api_keys = "{HIDDEN}"',
    f'header = {{ Authorization = "{HIDDEN}" }}',
    f'url = "http://user:{HIDDEN}@gpu"',
    f'url = "user:{HIDDEN}@gpu"',
    f'url = "ftp://user:pa/{HIDDEN}@gpu"',
    f'url = "http://gpu/?key={HIDDEN}"',
    f'url = "http://gpu/#{HIDDEN}"',
    f'url = ["http://user:{HIDDEN}@gpu"]',
    f'models = {{ api_key = "{HIDDEN}" }}',
    f'[backends]\nb = "http://user:{HIDDEN}@gpu"',
    f'[[backends.a.headers]]\nX = "{HIDDEN}"',
    f'[clients.a]\napi_key = "{HIDDEN}"',
    f'[other]\napi_key = "{HIDDEN}"',
]


def assert_hidden(caught: pytest.ExceptionInfo[ConfigError]) -> None:
    """One line, and the secret is neither in it nor in the traceback."""
    assert HIDDEN not in repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("toml", WRONG_SECRETS)
def test_wrong_secrets_in_toml_are_not_shown(load_toml: Any, toml: str) -> None:
    """Whatever is wrong with or around a secret, neither the error nor its traceback shows it."""
    with pytest.raises(ConfigError) as caught:
        load_toml(f"[backends.a]\n{toml}")
    assert_hidden(caught)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AGENTHUB_BACKENDS__A__API_KEY", HIDDEN),
        ("AGENTHUB_BACKENDS__A__API_KEY", f"{HIDDEN}\n"),
        ("AGENTHUB_BACKENDS__A__API_KEYS", HIDDEN),
        ("AGENTHUB_BACKENDS__A__API_KEY__X", HIDDEN),
        ("AGENTHUB_BACKENDS__A__HEADERS", f"Authorization: {HIDDEN}"),
        ("AGENTHUB_BACKENDS__A__HEADERS__X", f"{HIDDEN}\x7f"),
        ("AGENTHUB_BACKENDS__A__HEADERS__X__Y", HIDDEN),
        ("AGENTHUB_BACKENDS__A__HEADERS__", HIDDEN),
        ("AGENTHUB_BACKENDS__A", HIDDEN),
        ("AGENTHUB_BACKENDS", HIDDEN),
        ("AGENTHUB_API_KEY", HIDDEN),
        ("AGENTHUB_BACKENDS__A__URL", f"http://user:{HIDDEN}@gpu"),
        ("OLLAMA_HOST", f"http://user:{HIDDEN}@gpu"),
        ("OLLAMA_HOST", f"gpu/?key={HIDDEN}"),
    ],
)
def test_wrong_secrets_in_variables_are_not_shown(load_toml: Any, name: str, text: str) -> None:
    """The same for the environment and for the command line."""
    with pytest.raises(ConfigError) as caught:
        load_toml("", {name: text})
    assert_hidden(caught)
    if name != "OLLAMA_HOST":
        key = name.removeprefix("AGENTHUB_").lower().replace("__", ".")
        with pytest.raises(ConfigError) as caught:
            load_toml(overrides={key: text, f"backends.a.headers.Authorization: {HIDDEN}": 1})
        assert_hidden(caught)


# --- laws

NAMED_TABLES = ("backends", "models", "clients")
WORDS = ["auto", "json", "off", "all", "skip", "debug", "ollama", "", " x ", '"', "a,b", "é", "1", "true"]
VALUES: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-1, 10**6),
    float: st.floats(-1, 1e9) | st.integers(0, 10**6),
    str: st.sampled_from(WORDS),
    Secret: st.sampled_from(WORDS),
    tuple: st.lists(st.from_regex(r"[a-z_*]+", fullmatch=True), max_size=3),
}


def rows() -> st.SearchStrategy[tuple[str, object]]:
    """The key path of a setting outside the named tables, and a value of its type, right or wrong."""
    plain = [(path, type(default)) for path, default, _ in describe() if not path.startswith(NAMED_TABLES)]
    return st.sampled_from(plain).flatmap(lambda row: st.tuples(st.just(row[0]), VALUES[row[1]]))


def outcome(environ: Mapping[str, str], overrides: Mapping[str, object], directory: Path) -> Settings | str:
    """The settings, or the error without its source."""
    try:
        return load(None, environ, overrides=overrides, directory=directory)
    except ConfigError as error:
        return re.sub(r"^(config/agenthub\.toml|environment: \w+|command line): ", "", str(error))


@given(row=rows())
def test_every_layer_means_the_same(tmp_path_factory: pytest.TempPathFactory, row: tuple[str, object]) -> None:
    """A value gives the same settings, or the same error, from the file, the environment and the command line."""
    path, value = row
    empty = tmp_path_factory.getbasetemp()
    file = empty / "law/config/agenthub.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{path} = {json.dumps(value, ensure_ascii=False)}", encoding="utf-8")
    text = ",".join(value) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
    from_file = outcome({}, {}, empty / "law")
    assert outcome({f"AGENTHUB_{path.replace('.', '__').upper()}": text}, {}, empty) == from_file
    assert outcome({}, {path: value}, empty) == from_file


@given(text=st.text(max_size=30) | st.from_regex(r"(https?://)?[a-z0-9.\[\]:]{0,12}(/[a-z?#@]{0,4})?", fullmatch=True))
def test_any_ollama_host(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever OLLAMA_HOST holds, the start has the URL of one server or stops with one line."""
    found = outcome({"OLLAMA_HOST": text}, {}, tmp_path_factory.getbasetemp())
    url = found.backends["ollama"].url if isinstance(found, Settings) else ""
    assert re.fullmatch(r"https?://\S+:\d+(/\S*)?", url) or (isinstance(found, str) and len(found.splitlines()) == 1)


@given(secret=st.text("abcXYZ019 :@/?#,=", min_size=9).map("sk-".__add__), junk=st.text(max_size=3))
def test_no_secret_is_ever_shown(tmp_path_factory: pytest.TempPathFactory, secret: str, junk: str) -> None:
    """Any text as a key, a header value or a part of one is kept, or refused without being shown."""
    for key in ("api_key", "headers.X", f"headers.{json.dumps('X: ' + secret)}", f"api_key.{json.dumps(junk)}"):
        overrides = {"backends.a.url": "http://a", f"backends.a.{key}": secret + junk}
        assert secret not in repr(outcome({}, overrides, tmp_path_factory.getbasetemp()))


# --- the files that people copy


def uncomment(text: str) -> str:
    """Prose has a blank after its ``#``; a setting that is switched off has none."""
    return re.sub(r"(?m)^#(?=\S)", "", text)


def test_shipped_config_changes_nothing() -> None:
    """config/agenthub.toml as shipped equals having no file, and leaves OLLAMA_HOST in force."""
    path = ROOT / "config/agenthub.toml"
    nowhere = ROOT / "config"  # has no .env
    assert load(path, {}, directory=nowhere) == Settings(backends={"ollama": OLLAMA})
    moved = load(path, {"OLLAMA_HOST": "gpu"}, directory=nowhere)
    assert moved.backends == {"ollama": BackendSettings(url="http://gpu:11434")}


def test_shipped_config_has_every_setting() -> None:
    """config/agenthub.toml lists each setting once, in order, under its line of help, with its true default."""
    text = uncomment((ROOT / "config/agenthub.toml").read_text())
    names = {"backends": ("ollama", "NAME"), "models": ("gpt-4o", "ALIAS"), "clients": ("vscode", "NAME")}
    listed = {}
    for key, value in tomllib.loads(text).items():
        example, placeholder = names.get(key, (None, None))
        tables = {f"{key}.{placeholder}": value[example]} if example else {key: value}
        for prefix, table in tables.items():
            listed.update(
                {f"{prefix}.{n}": v for n, v in table.items()} if isinstance(table, dict) else {prefix: table}
            )
    required = {"backends.NAME.url": "http://127.0.0.1:11434"}
    plain = {tuple: list, Secret: Secret.reveal, KeyDigest: lambda digest: ""}
    defaults = {path: plain.get(type(value), lambda v: v)(value) for path, value, _ in describe()} | required  # type: ignore[operator]
    assert listed == defaults
    assert list(listed) == [path for path, _, _ in describe()]
    for path, _, help_line in describe():
        assert f"# {help_line}\n{path.rpartition('.')[2]} = " in text, path


def test_examples_in_the_shipped_config_load(load_toml: Any) -> None:
    """With its examples switched on, config/agenthub.toml loads: two backends, an alias, a client. The client's key has
    to be filled in, or left out.
    """
    text = uncomment((ROOT / "config/agenthub.toml").read_text())
    with pytest.raises(ConfigError, match=r"clients\.vscode\.api_key: the key is empty"):
        load_toml(text)
    before, client, after = text.partition("[clients.vscode]")
    settings = load_toml(before + client + re.sub(r'(?m)^api_key(_file)? = ""\n', "", after))
    assert settings.backends == {
        "ollama": OLLAMA,
        "vllm": BackendSettings(url="http://10.0.0.7:8000/v1", api_mode="openai", models=("qwen*", "mistral*")),
    }
    assert settings.models == {"gpt-4o": ModelSettings(target="gpt-4o")}
    assert list(settings.clients) == ["vscode"]


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "config").glob("*.toml")) if p.name != "enhancement.toml"],
    ids=lambda path: path.name,
)
def test_config_files_load(tmp_path: Path, path: Path) -> None:
    """Each settings file in config/ loads."""
    assert load(path, {}, directory=tmp_path).backends


def test_env_example_loads(tmp_path: Path) -> None:
    """.env.example, copied to .env, changes nothing; with its own backend switched on it loads too."""
    text = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(text)
    assert load(None, {}, directory=tmp_path) == Settings(backends={"ollama": OLLAMA})
    (tmp_path / ".env").write_text(uncomment(text))
    gpu1 = BackendSettings(url="http://gpu1.internal:11434", api_key="change-me")
    assert load(None, {}, directory=tmp_path) == Settings(backends={"gpu1": gpu1})


def test_everything_is_frozen(load_toml: Any) -> None:
    """No part of the settings can be changed after the start."""
    settings = load_toml(GPU + 'headers = { A = "x" }\n[models.a]\ntarget = "x"\noptions = { a = 1 }')
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.port = 1
    for mapping in (
        settings.backends, settings.models, settings.clients, settings.sources,
        settings.backends["gpu"].headers, settings.models["a"].options,
    ):  # fmt: skip
        assert not hasattr(mapping, "__setitem__")
