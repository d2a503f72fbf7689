"""What stands in deploy/, read for the tests: the ways to run a hub, each with its settings and its limits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from agenthub.settings import Settings, load
from tests.length_check import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE, COMPOSE = DEPLOY / "docker/Dockerfile", DEPLOY / "compose/compose.yaml"
BASE, VALKEY = DEPLOY / "kubernetes/base", DEPLOY / "kubernetes/valkey"
UNIT = DEPLOY / "systemd/agenthub.service"
KEY = "0123456789abcdef"


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def manifests(folder: Path) -> dict[tuple[str, str], Any]:
    """Return every Kubernetes object of a folder by its kind and name."""
    found = [document for path in sorted(folder.glob("*.yaml")) for document in documents(path)]
    return {
        (item["kind"], item["metadata"]["name"]): item
        for item in found
        if isinstance(item, dict) and "metadata" in item
    }


def steps() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in their order, each on one line."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def step(word: str) -> str:
    """Return the last instruction of that word: the one that counts in the image."""
    return [rest for found, rest in steps() if found == word][-1]


def image_environ() -> dict[str, str]:
    """Return the variables that the image sets."""
    return assignments(step("ENV").split())


def assignments(lines: list[str]) -> dict[str, str]:
    """Return NAME=value lines as a mapping; a setting that is commented out counts, other lines do not."""
    found = (re.fullmatch(r"#?([A-Z_]+)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def unit() -> dict[str, list[str]]:
    """Return the settings of the systemd unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    """Return a duration of compose or systemd, which are all written in seconds."""
    return float(text.removesuffix("s"))


@attrs.frozen
class Place:
    """One way to run the hub: its file of settings, its variables, and when it is killed after SIGTERM."""

    name: str
    file: Path
    environ: Mapping[str, str]
    killed_after_s: float
    lost_s: float = 0.0
    """How much of that passes before SIGTERM."""

    def toml(self) -> dict[str, Any]:
        """Return the file as it stands."""
        return tomllib.loads(self.file.read_text(encoding="utf-8"))

    def load(self, folder: Path, **environ: str) -> Settings:
        """Load the settings as the hub does there, mounted keys in ``folder``."""
        (folder / "main.key").write_text(KEY + "\n")
        mounted = [client.get("api_key_file") for client in self.toml().get("clients", {}).values()]
        path = {"clients.main.api_key_file": str(folder / "main.key")} if any(mounted) else {}
        variables = {name: value.replace("%d", str(folder)) for name, value in (self.environ | environ).items()}
        return load(self.file, variables, overrides=path, directory=folder)


def places() -> Iterator[Place]:
    """Yield every way to run the hub that deploy/ holds."""
    image, key = image_environ(), {"AGENTHUB_CLIENTS__MAIN__API_KEY": KEY}
    yield Place("image", ROOT / "config/agenthub.toml", image | key, 75)
    hub = documents(COMPOSE)[0]["services"]["hub"]
    from_file = assignments((DEPLOY / "compose/.env.example").read_text(encoding="utf-8").splitlines())
    yield Place(
        "compose", DEPLOY / "compose/config/agenthub.toml", image | from_file | key, seconds(hub["stop_grace_period"])
    )
    pod = manifests(BASE)["Deployment", "agenthub"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    added = manifests(VALKEY)["Deployment", "agenthub"]["spec"]["template"]["spec"]["containers"][0]["env"]
    shared = {item["name"]: item["value"].replace("$(VALKEY_PASSWORD)", KEY) for item in added if "value" in item}
    for name, environ in (("kubernetes", image), ("kubernetes with valkey", image | shared)):
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        yield Place(name, BASE / "agenthub.toml", environ, pod["terminationGracePeriodSeconds"], before)
    service = unit()
    example = assignments((DEPLOY / "systemd/agenthub.env.example").read_text(encoding="utf-8").splitlines())
    environ = assignments(service["Environment"])
    stop_s = seconds(service["TimeoutStopSec"][0])
    yield Place("systemd", DEPLOY / "systemd/agenthub.toml", environ, stop_s)
    yield Place("systemd with its variables", DEPLOY / "systemd/agenthub.toml", environ | example, stop_s)


PLACES = list(places())
