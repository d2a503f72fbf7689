"""deploy/ agrees with the code and with itself: settings, names, paths, ports, times, users and versions."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from agenthub.api.routes import ROUTES
from agenthub.cli.master import graceful_timeout_s
from agenthub.settings import Settings, describe
from agenthub.standin import Standin, running
from tests.deployed import (
    BASE,
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    PLACES,
    UNIT,
    VALKEY,
    Place,
    documents,
    image_environ,
    manifests,
    step,
    steps,
    unit,
)
from tests.hubs import running_hub
from tests.length_check import ROOT
from tests.test_structure import declaration

PORT = Settings().port
TEXTS = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
SETUP = declaration(ROOT / "setup.cfg")
VERSION = SETUP["metadata"]["version"]
each_place = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)


def pod_of(folder: Path, name: str) -> Any:
    return manifests(folder)["Deployment", name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_parses(path: Path) -> None:
    """Every YAML file has documents, none of them empty."""
    assert documents(path)
    assert all(documents(path))


@each_place
def test_settings_load_and_ask_for_a_key(place: Place, tmp_path: Path) -> None:
    """The hub would start there: on its port, with a client that has a key, and it does not let everyone in."""
    settings = place.load(tmp_path)
    expected = "127.0.0.1" if place.name.startswith("systemd") else "0.0.0.0"
    assert (settings.host, settings.port, settings.insecure) == (expected, PORT, False)
    assert list(settings.clients) == ["main"]
    assert settings.clients["main"].api_key or settings.clients["main"].api_key_file


@each_place
def test_a_shared_cache_has_an_address(place: Place, tmp_path: Path) -> None:
    """Where answers are kept in Redis the settings say which; elsewhere they stay in memory."""
    caching = place.load(tmp_path).caching
    shared = place.name in ("compose", "kubernetes with valkey", "systemd with its variables")
    assert (caching.backend, bool(caching.url)) == (("redis", True) if shared else ("memory", False))
    assert caching.url.reveal().startswith("redis://") or not shared


@each_place
def test_what_is_killed_had_time_to_finish(place: Place, tmp_path: Path) -> None:
    """SIGKILL comes when the hub has given its streams up by itself, and its workers have had their time to close."""
    assert place.killed_after_s > place.lost_s + graceful_timeout_s(place.load(tmp_path))


def test_every_variable_is_a_setting() -> None:
    """No file names an AGENTHUB_ variable that the hub does not know."""
    names = [re.escape(key.upper()).replace(r"\.", "__") for key, _, _ in describe()]
    known = re.compile(
        "AGENTHUB_(?:CONFIG|" + "|".join(re.sub("NAME|ALIAS", "[A-Z0-9]+?", name) for name in names) + ")"
    )
    written = {word for path in TEXTS for word in re.findall(r"AGENTHUB_[A-Z0-9_]+", path.read_text(encoding="utf-8"))}
    assert len(written) > 8
    assert {word for word in written if not known.fullmatch(word)} == set()


def test_no_secret_is_written_down() -> None:
    """What is to be a secret is empty in the examples, so that nobody starts a hub whose key all know."""
    [secret] = documents(BASE / "secret.example.yaml")
    assert set(secret["stringData"].values()) == {""}
    env = (DEPLOY / "compose/.env.example").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^AGENTHUB_.*$", env) == ["AGENTHUB_CLIENTS__MAIN__API_KEY="]
    assert "secret.example.yaml" not in documents(BASE / "kustomization.yaml")[0]["resources"]
    hub = documents(COMPOSE)[0]["services"]["hub"]
    assert hub["environment"]["AGENTHUB_CLIENTS__MAIN__API_KEY"].startswith("${AGENTHUB_CLIENTS__MAIN__API_KEY:?")


def test_ports_agree_everywhere() -> None:
    """One port, the default of the settings, from the image to the Service."""
    hub = documents(COMPOSE)[0]["services"]["hub"]
    [container] = pod_of(BASE, "agenthub")["containers"]
    [service] = manifests(BASE)["Service", "agenthub"]["spec"]["ports"]
    [ingress] = manifests(BASE)["NetworkPolicy", "agenthub"]["spec"]["ingress"]
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    assert service == {"name": "http", "port": PORT, "targetPort": "http"}
    assert ingress["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert (step("EXPOSE"), image_environ()["AGENTHUB_PORT"]) == (str(PORT), str(PORT))
    assert hub["ports"] == [f"${{PUBLISH:-127.0.0.1:{PORT}}}:{PORT}"]
    assert {place.toml()["port"] for place in PLACES} == {PORT}


def test_probes_ask_paths_that_exist() -> None:
    """The hub answers what Kubernetes asks: whether it lives at /health, whether to send requests at /ready."""
    [container] = pod_of(BASE, "agenthub")["containers"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    paths = {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    assert probes == {kind: {"path": path, "port": "http"} for kind, path in paths.items()}
    assert set(paths.values()) <= {path for method, path, _ in ROUTES if method == "GET"}
    assert container["readinessProbe"]["timeoutSeconds"] > Settings().health.ping_timeout_s


async def test_the_health_check_of_the_image_tells_up_from_down() -> None:
    """The very command of the Dockerfile ends with 0 where a hub answers, else with 1 and one line, proxies or not."""
    command = json.loads(step("HEALTHCHECK").split("CMD ", 1)[1])
    assert command == ["python", "-I", "/opt/agenthub/health.py"]
    copied = next(rest.split()[0] for word, rest in steps() if word == "COPY" and rest.endswith(command[-1]))

    async def check(port: int) -> tuple[int | None, bytes]:
        environ = os.environ | {"AGENTHUB_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", ROOT / copied, env=environ, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
        return process.returncode, errors

    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        assert await check(int(hub.url.rpartition(":")[2])) == (0, b"")
        assert await check(int(upstream.rpartition(":")[2])) == (1, b"/health: status 404\n")
    with socket.socket() as free:  # bound and not listening: refused
        free.bind(("127.0.0.1", 0))
        status, errors = await check(free.getsockname()[1])
    assert status == 1
    assert re.fullmatch(rb"/health: [^\n]*refused\n", errors)


def test_nothing_runs_as_root() -> None:
    """The image and both pods have a fixed user without privileges, on a file system that is read-only."""
    uid, gid = map(int, step("USER").split(":"))
    assert (uid > 1000, gid > 1000) == (True, True)
    for folder, name, user in ((BASE, "agenthub", uid), (VALKEY, "agenthub-valkey", 999)):
        pod = pod_of(folder, name)
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, user)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert [container["securityContext"] for container in pod["containers"]] == [
            {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        ]
    for name in ("hub", "valkey"):
        service = documents(COMPOSE)[0]["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert (unit()["DynamicUser"], unit()["NoNewPrivileges"], unit()["ProtectSystem"]) == (["yes"], ["yes"], ["strict"])


def test_versions_agree() -> None:
    """Every image of the hub is tagged with its version; the Python in it is one that the tests know."""
    hub = documents(COMPOSE)[0]["services"]["hub"]
    tags = [image["newTag"] for name in ("base", "example") for image in kustomization(name)["images"]]
    assert [hub["image"], *tags] == [f"agenthub:{VERSION}", VERSION, VERSION]
    assert ("ARG", f"VERSION={VERSION}") in steps()
    python = next(rest for word, rest in steps() if rest.startswith("PYTHON="))
    assert f"Programming Language :: Python :: {python[7:11]}\n" in SETUP["metadata"]["classifiers"]
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"agenthub:([0-9][0-9.]*)", readme + DOCKERFILE.read_text(encoding="utf-8"))) == {VERSION}


def test_the_image_is_built_from_what_is_there() -> None:
    """What the Dockerfile copies exists and is let through by .dockerignore; what it installs is declared."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [rest.split()[0] for word, rest in steps() if word == "COPY" and not rest.startswith("--from")]
    assert "*" in ignored
    assert "**/.env*" in ignored[ignored.index(f"!{allowed[-1]}") :]
    assert all((ROOT / path).exists() for path in [*copied, *allowed])
    assert all(any(fnmatch(path, pattern) for pattern in allowed) for path in copied if path != ".")
    installed = next(rest for word, rest in steps() if "$1[" in rest)
    extras = re.findall(r"\$1\[([a-z,]+)\]", installed)[0].split(",")
    assert sorted(extras) == sorted(set(SETUP["options.extras_require"]) - {"test"})
    wheels = next(rest for word, rest in steps() if rest.startswith("pip wheel"))
    assert wheels.split("/wheels ")[1].split() == [".", *(f"./plugins/{path.name}" for path in adapters())]


def adapters() -> list[Path]:
    return sorted(path.parent for path in ROOT.glob("plugins/*/setup.cfg"))


def kustomization(name: str) -> Any:
    return documents(DEPLOY / "kubernetes" / name / "kustomization.yaml")[0]


def test_kubernetes_objects_mean_the_pods_of_the_hub() -> None:
    """Every selector names the label of the pods; the autoscaler and the mounts name what exists."""
    objects = manifests(BASE)
    labels = {"app.kubernetes.io/name": "agenthub"}
    pod = pod_of(BASE, "agenthub")
    assert objects["Deployment", "agenthub"]["spec"]["template"]["metadata"]["labels"] == labels
    assert objects["Service", "agenthub"]["spec"]["selector"] == labels
    selectors = [objects[kind, "agenthub"]["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget")]
    selectors += [spread["labelSelector"] for spread in pod["topologySpreadConstraints"]]
    selectors += [objects["NetworkPolicy", "agenthub"]["spec"]["podSelector"]]
    assert selectors == [{"matchLabels": labels}] * 5
    target = objects["HorizontalPodAutoscaler", "agenthub"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "agenthub"}
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    assert mounts[str(Path(image_environ()["AGENTHUB_CONFIG"]).parent)] == "config"
    key_file = Path(
        next(place for place in PLACES if place.name == "kubernetes").toml()["clients"]["main"]["api_key_file"]
    )
    assert mounts[str(key_file.parent)] == "keys"
    assert key_file.name in documents(BASE / "secret.example.yaml")[0]["stringData"]


def test_the_unit_reloads_and_stops_by_signals_to_the_hub() -> None:
    """Reload is SIGHUP to the main process; stop is SIGTERM to it alone; wrong settings are no reason to start anew."""
    found = unit()
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert (found["KillMode"], found["Restart"], found["RestartPreventExitStatus"]) == (
        ["mixed"],
        ["on-failure"],
        ["2"],
    )
    assert found["LoadCredential"] == ["main.key:/etc/agenthub/main.key"]
    assert "AGENTHUB_CLIENTS__MAIN__API_KEY_FILE=%d/main.key" in found["Environment"]


def run(*command: str | Path) -> str:
    """Run a program that may be missing here; its output, which is to come without any failure."""
    program = str(command[0])
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """systemd-analyze finds nothing wrong with the unit, once its program exists."""
    text = UNIT.read_text(encoding="utf-8")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    assert run("systemd-analyze", "verify", "--man=no", copy) == ""


@pytest.mark.parametrize("folder", ["base", "example"])
def test_kustomize_builds(folder: str) -> None:
    """kubectl puts the manifests together: the pods use the ConfigMap as it was named, and images that have tags."""
    built = list(yaml.safe_load_all(run("kubectl", "kustomize", DEPLOY / "kubernetes" / folder)))
    by_kind = {(item["kind"], re.sub(r"-[a-z0-9]{10}$", "", item["metadata"]["name"])): item for item in built}
    kinds = ["ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"]
    assert set(by_kind) >= {(kind, "agenthub") for kind in kinds}
    pod = by_kind["Deployment", "agenthub"]["spec"]["template"]["spec"]
    config = by_kind["ConfigMap", "agenthub"]["metadata"]["name"]
    assert {"name": "config", "configMap": {"name": config}} in pod["volumes"]
    assert re.search(rf"agenthub:{re.escape(VERSION)}$", pod["containers"][0]["image"])
    assert (("Deployment", "agenthub-valkey") in by_kind) == (folder == "example")
    if folder == "example":
        assert {item["metadata"].get("namespace") for item in built if item["kind"] != "Namespace"} == {"agenthub"}
