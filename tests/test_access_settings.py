"""What the settings say of who may call: keys and their files, rights, origins, and the address to listen on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agenthub.api.access import check_exposure
from agenthub.app import make_app
from agenthub.errors import ConfigError
from agenthub.operations import ASKING, GROUPS, MANAGING, WORDS, meant
from agenthub.settings import BackendSettings, ClientSettings, CorsSettings, Settings, load
from agenthub.settings.keys import KeyDigest

KEY = "sk-Zx81-do-not-show"


def read(directory: Path, toml: str, **environ: str) -> Settings:
    (directory / "hub.toml").write_text(toml)
    return load(Path("hub.toml"), environ, directory=directory)


def refused(directory: Path, toml: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(directory, toml, **environ)
    assert KEY not in f"{caught.value!r} {caught.value}"
    return str(caught.value)


@pytest.mark.parametrize(
    "text", [KEY, f"  {KEY}\n", f"\ufeff{KEY}\r\n", KeyDigest.of(KEY)._digest.hex().join(("sha256:", ""))]
)
def test_a_key_from_a_file(tmp_path: Path, text: str) -> None:
    """One line, trimmed; as it is or as its digest. It is kept as a digest, and shown nowhere."""
    (tmp_path / "key").write_bytes(text.encode())
    settings = read(tmp_path, '[clients.ci]\napi_key_file = "key"')
    assert settings.clients["ci"].api_key == KeyDigest.of(KEY)
    assert KEY not in repr(settings)


def test_a_key_from_the_environment(tmp_path: Path) -> None:
    """Which also adds the client."""
    settings = read(tmp_path, "", AGENTHUB_CLIENTS__CI__API_KEY=KEY)
    assert settings.clients == {"ci": ClientSettings(api_key=KEY)}


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    """Bytes of the environment that are no UTF-8 are the bytes that the client must send."""
    settings = read(tmp_path, "", AGENTHUB_CLIENTS__CI__API_KEY=os.fsdecode(b"key-\xff\xfe"))
    assert settings.clients["ci"].api_key == KeyDigest(hashlib.sha256(b"key-\xff\xfe").digest())


FILES: list[tuple[bytes | None, str]] = [
    (None, "the file cannot be read: No such file or directory"),
    (b"", "the file is empty: use one that holds the key in one line"),
    (b" \n\n", "the file is empty: use one that holds the key in one line"),
    (f"{KEY}\nmore".encode(), "the file holds more than a key: use one that holds the key in one line"),
    (KEY.encode() * 500, "the file holds more than a key: use one that holds the key in one line"),
    (b"\xff\xfe", "the file cannot be read: it is not UTF-8 text, or its name is none"),
    (f"{KEY}\x07x".encode(), "the value (secret, not shown) is not allowed: use a text without control characters"),
]


@pytest.mark.parametrize(("content", "problem"), FILES)
def test_a_file_that_holds_no_key(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """The error names the setting, neither the content nor the file: a key may stand in the place of its name."""
    if content is not None:
        (tmp_path / KEY).write_bytes(content)
    line = refused(tmp_path, f'[clients.ci]\napi_key_file = "{KEY}"')
    assert line == f"hub.toml: clients.ci.api_key_file: {problem}"


EMPTY = "the key is empty: use a key, or leave the setting out"
BLANKS = "the key is nothing but blanks: use a key, or leave the setting out"
EDGE = "the key (secret, not shown) begins or ends with a blank, which no header keeps: leave it out"
QUOTED = "the key (secret, not shown) stands in quotes, which would be part of it: leave them out"
CONTROLS = "the value (secret, not shown) is not allowed: use a text without control characters"
NO_DIGEST = "the digest (not shown) is not one: use sha256: and 64 hexadecimal digits"
HEX = KeyDigest.of(KEY)._digest.hex()
NO_KEYS = {
    "": EMPTY,
    "   ": BLANKS,
    "\u00a0": BLANKS,
    f" {KEY}": EDGE,
    f"{KEY} ": EDGE,
    f'"{KEY}"': QUOTED,
    f"'{KEY}'": QUOTED,
    f"{KEY}\n": CONTROLS,
    f"{KEY}\x7f": CONTROLS,
    "sha256:": NO_DIGEST,
    f"sha256:{HEX[:-1]}": NO_DIGEST,
    f"sha256:{HEX}0": NO_DIGEST,
    f"sha256:{HEX[:-1]}g": NO_DIGEST,
    f"SHA256:{HEX[:-2]}": NO_DIGEST,
    f"sha256: {HEX}": NO_DIGEST,
    f"sha256={HEX}": NO_DIGEST,
    f"sha-256:{HEX}": NO_DIGEST,
    f"sha512:{HEX}{HEX}": NO_DIGEST,
    f"md5:{HEX[:32]}": NO_DIGEST,
    f"sha256-{HEX}": NO_DIGEST,
    f"sha256{HEX}": NO_DIGEST,
    f"blake2b:{HEX}": NO_DIGEST,
}


@pytest.mark.parametrize("text", NO_KEYS)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    """From each source it stops the start with a line that names the setting, and never the key: an empty one would
    let everybody in, and a digest with a slip in it would be a key in clear. Nor can settings be made of it by hand.
    """
    toml, path = f"[clients.ci]\napi_key = {json.dumps(text)}", "clients.ci.api_key"
    name = "AGENTHUB_CLIENTS__CI__API_KEY"
    assert refused(tmp_path, toml) == f"hub.toml: {path}: {NO_KEYS[text]}"
    assert refused(tmp_path, "", **{name: text}) == f"environment: {name}: {path}: {NO_KEYS[text]}"
    hidden = refused(tmp_path, toml, **{name: "another"})
    assert hidden == f"hub.toml: {path}: {NO_KEYS[text]}"
    with pytest.raises(ConfigError) as caught:
        load(None, {}, overrides={"clients.ci.api_key": text}, directory=tmp_path)
    assert str(caught.value) == f"command line: {path}: {NO_KEYS[text]}"
    with pytest.raises(ConfigError) as caught:
        ClientSettings(api_key=text)
    assert str(caught.value) == f"api_key: {NO_KEYS[text]}"
    assert KEY not in str(caught.value)
    assert HEX[:30] not in str(caught.value)


@pytest.mark.parametrize("line", ["=", '=""', "=''", " = ", ""])
def test_no_key_in_dotenv(tmp_path: Path, line: str) -> None:
    """However nothing is written, also without an equals sign."""
    (tmp_path / ".env").write_text(f"AGENTHUB_CLIENTS__CI__API_KEY{line}\n")
    problem = refused(tmp_path, "")
    assert problem.startswith(".env: AGENTHUB_CLIENTS__CI__API_KEY: clients.ci.api_key: ")


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"SHA256:{HEX.upper()}", KEY, f"{KEY} with blanks", HEX, '"', "x"])
def test_what_is_a_key(tmp_path: Path, text: str) -> None:
    """A digest in either case, and any text that a header can carry; blanks within it are kept by one."""
    settings = read(tmp_path, f"[clients.ci]\napi_key = {json.dumps(text)}")
    assert settings.clients["ci"].api_key == KeyDigest.of(KEY if text.lower().startswith("sha256:") else text)


@pytest.mark.parametrize("name", ["", " "])
def test_a_file_without_a_name(tmp_path: Path, name: str) -> None:
    """It would be no key either."""
    problem = "the name is empty: use that of a file with the key, or leave the setting out"
    path, variable = "clients.ci.api_key_file", "AGENTHUB_CLIENTS__CI__API_KEY_FILE"
    assert refused(tmp_path, f'[clients.ci]\napi_key_file = "{name}"') == f"hub.toml: {path}: {problem}"
    assert refused(tmp_path, "", **{variable: name}) == f"environment: {variable}: {path}: {problem}"


@pytest.mark.parametrize("text", ["sha256:", f"sha256:{HEX[:-1]}", f"sha512:{HEX}", f'"{KEY}"', f" \n{HEX}\n\n{HEX}"])
def test_a_file_with_a_slip(tmp_path: Path, text: str) -> None:
    """The same holds for what stands in a file."""
    (tmp_path / "key").write_text(text)
    line = refused(tmp_path, '[clients.ci]\napi_key_file = "key"')
    assert line.startswith("hub.toml: clients.ci.api_key_file: the ")
    assert HEX[:30] not in line


@pytest.mark.parametrize("text", [" ", f"{KEY} ", f'"{KEY}"', f"{KEY}\n"])
def test_a_key_for_a_backend(tmp_path: Path, text: str) -> None:
    """What none can be is refused; an empty one says that the backend wants none, and opens nothing."""
    toml = '[backends.a]\nurl = "http://127.0.0.1:9"\napi_key = '
    assert not read(tmp_path, f'{toml}""').backends["a"].api_key
    assert read(tmp_path, f'{toml}"sha256:x"').backends["a"].api_key.reveal() == "sha256:x"
    assert refused(tmp_path, toml + json.dumps(text)).startswith("hub.toml: backends.a.api_key: the ")


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    line = refused(tmp_path, '[clients.ci]\napi_key_file = "."')
    assert line == "hub.toml: clients.ci.api_key_file: the file cannot be read: Is a directory"


def test_both_ways_at_once(tmp_path: Path) -> None:
    """Even from different sources: which one counts would be a guess."""
    line = refused(tmp_path, '[clients.ci]\napi_key_file = "key"', AGENTHUB_CLIENTS__CI__API_KEY=KEY)
    assert line == "hub.toml: clients.ci.api_key_file: api_key is given as well: use one of the two"


def test_one_key_for_two_clients(tmp_path: Path) -> None:
    """A key must tell who calls; also when one is a digest or stands in a file."""
    (tmp_path / "key").write_text(KEY)
    digest = f"sha256:{KeyDigest.of(KEY)._digest.hex()}"
    first = f'[clients.a]\napi_key = "{KEY}"\n'
    problem = "this is the key of client a too: give each one of its own"
    assert refused(tmp_path, f'{first}[clients.b]\napi_key = "{digest}"') == f"hub.toml: clients.b.api_key: {problem}"
    assert (
        refused(tmp_path, f'{first}[clients.b]\napi_key_file = "key"') == f"hub.toml: clients.b.api_key_file: {problem}"
    )


def test_operations(tmp_path: Path) -> None:
    """Words of one operation or of several; a word that is none is refused with those that are."""
    settings = read(tmp_path, '[clients.ci]\noperations = ["ask", "pull"]')
    assert meant(settings.clients["ci"].operations) == {*ASKING, "pull"}
    assert meant(("all",)) == GROUPS["ask"] | GROUPS["manage"] == {*ASKING, *MANAGING}
    words = ", ".join(f'"{word}"' for word in WORDS[:-1]) + f' or "{WORDS[-1]}"'
    assert refused(tmp_path, '[clients.ci]\noperations = ["chat", "fly"]') == (
        f'hub.toml: clients.ci.operations: "fly" is not allowed: use a list of {words}'
    )


@pytest.mark.parametrize(
    "entry",
    [
        "example.com",
        "https://",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "https://exa mple.com",
        "https://*example.com",
        "https://a.*.com",
        "https://example.com:",
        "https://example.com:http",
        "https://example.com:123456",
        "http://ex\u00e4mple.com",
        "https://a,https://b",
        "**",
        "://a",
        "https://a\\n",
    ],
)
def test_origins_that_are_none(tmp_path: Path, entry: str) -> None:
    """What no browser would send is a mistake, and one that would otherwise be noticed late."""
    line = refused(tmp_path, f'[cors]\norigins = ["*", "{entry}"]')
    assert line.startswith("hub.toml: cors.origins: ")
    assert line.endswith(
        'use a list of origins as "https://chat.example.com", "https://*.example.com", "http://10.0.0.7:*" or "*"'
    )
    with pytest.raises(ConfigError, match=r"^origins: "):
        CorsSettings(origins=(entry.replace("\\n", "\n"),))


BACKENDS = {"a": BackendSettings(url="http://h")}
KEYED = {"x": ClientSettings(api_key=KEY)}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "hub.example"])
def test_an_open_hub_needs_keys_or_a_word(host: str) -> None:
    """An address beyond loopback without any key stops the start, with one line and both remedies."""
    line = (
        f"default: host: {host} is open to other machines, and no client has a key: "
        "give one a key (clients.NAME.api_key), or use --insecure (insecure = true, AGENTHUB_INSECURE=true)"
    )
    for clients in ({}, {"x": ClientSettings(models=("a",))}):
        with pytest.raises(ConfigError) as caught:
            make_app(Settings(host=host, backends=BACKENDS, clients=clients))
        assert str(caught.value) == line
    make_app(Settings(host=host, backends=BACKENDS, clients=KEYED))
    make_app(Settings(host=host, backends=BACKENDS, insecure=True))
    make_app(Settings(host="127.0.0.1", backends=BACKENDS))


def test_the_source_of_the_address_is_named(tmp_path: Path) -> None:
    settings = read(tmp_path, "", AGENTHUB_HOST="0.0.0.0")
    with pytest.raises(ConfigError, match=r"^environment: AGENTHUB_HOST: host: 0\.0\.0\.0 is open"):
        check_exposure(settings)


def test_the_production_sample_needs_its_keys(tmp_path: Path) -> None:
    """config/production.toml loads as it is, and may be served once its client has a key."""
    path: Any = Path(__file__).parents[1] / "config/production.toml"
    with pytest.raises(ConfigError, match="no client has a key"):
        check_exposure(load(path, {}, directory=tmp_path))
    check_exposure(load(path, {"AGENTHUB_CLIENTS__CI__API_KEY": KEY}, directory=tmp_path))
