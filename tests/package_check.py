"""Builds the three distributions, installs their wheels in a clean venv and loads them there.

Run by `tox -e package`. Each wheel is built from its own sdist, so a file that an sdist lacks is missed here and not by
a user. The sources are copied first: a `build/` or `*.egg-info` left in the tree could otherwise end up in a wheel.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFTOVERS = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")

# Runs in the clean venv, outside the sources.
LOADED = """\
from importlib.metadata import entry_points, metadata
found = {entry.name: entry.load().__name__ for entry in entry_points(group="agenthub")}
assert found == {"native": "agenthub_adapter_native", "openai": "agenthub_adapter_openai"}, found
for name in ("agenthub", "agenthub-adapter-native", "agenthub-adapter-openai"):
    described = metadata(name)
    print(name, described["Version"], described["License-Expression"])
    assert described["License-Expression"] == "MIT" and described.get_payload().strip(), f"{name}: incomplete"
"""

# The same after one adapter was uninstalled: the hub starts without it, says so, and refuses the mode that needs it.
WITHOUT = """\
import asyncio
import structlog
from aiohttp import web
from agenthub.app import make_app
from agenthub.errors import ConfigError
from agenthub.settings import BackendSettings, Settings

backends = {"ollama": BackendSettings(url="http://127.0.0.1:9")}

async def start():
    runner = web.AppRunner(make_app(Settings(backends=backends)))
    with structlog.testing.capture_logs() as lines:
        await runner.setup()
        await runner.cleanup()
    missing = [line for line in lines if line["event"] == "agenthub.adapter_missing"]
    wanted = "pip install plugins/agenthub-adapter-openai (in AgentHub's source tree)"
    assert [line["remedy"] for line in missing] == [wanted], lines
    assert any(line["event"] == "Using native Ollama API" for line in lines), lines

asyncio.run(start())
try:
    make_app(Settings(backends=backends, api_mode="openai"))
except ConfigError as error:
    print("refused:", error)
else:
    raise SystemExit("the missing adapter was not refused")
"""


def run(*command: str | Path, cwd: Path, quiet: bool = False) -> None:
    """Run one command, shown first; a failure shows its output, and ends the check."""
    print("+", *command, flush=True)
    output, errors = (subprocess.PIPE, subprocess.STDOUT) if quiet else (None, None)
    parts = [str(part) for part in command]
    done = subprocess.run(parts, cwd=cwd, stdout=output, stderr=errors, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout or ''}\npackage check: exit code {done.returncode} from: {' '.join(parts)}")


def build(sources: Path, wheels: Path) -> list[Path]:
    """The wheels of the hub and of every plugin beside it."""
    for project in (sources, *sorted(path.parent for path in sources.glob("plugins/*/setup.cfg"))):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", wheels, project, cwd=sources, quiet=True)
    return sorted(wheels.glob("*.whl"))


def check_contents(wheel: Path) -> None:
    """A wheel carries its one package, typed, and nothing of the tests."""
    package = wheel.name.split("-")[0]
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {package}, f"{wheel.name} also has {tops}"
    assert f"{package}/py.typed" in names, f"{wheel.name} has no py.typed"


def check_installed(wheels: list[Path], clean: Path) -> None:
    """The wheels work together where nothing else is installed."""
    venv.create(clean / "venv", with_pip=True)
    binaries = clean / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels, cwd=clean)
    run(binaries / "python", "-m", "pip", "check", "--disable-pip-version-check", cwd=clean)
    run(binaries / "python", "-W", "error", "-c", "import agenthub", cwd=clean)
    Path(clean, "loaded.py").write_text(LOADED, encoding="utf-8")
    run(binaries / "python", "loaded.py", cwd=clean)
    run(binaries / "agenthub", "--help", cwd=clean)
    run(binaries / "python", "-m", "agenthub", "--help", cwd=clean)
    run(binaries / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "agenthub-adapter-openai", cwd=clean)
    Path(clean, "without.py").write_text(WITHOUT, encoding="utf-8")
    run(binaries / "python", "without.py", cwd=clean)


def main() -> None:
    """Build, look inside, install and load."""
    with tempfile.TemporaryDirectory(prefix="agenthub-package-") as folder:
        shutil.copytree(ROOT, Path(folder, "sources"), ignore=LEFTOVERS)
        wheels = build(Path(folder, "sources"), Path(folder, "wheels"))
        assert len(wheels) == 3, wheels
        for wheel in wheels:
            check_contents(wheel)
        check_installed(wheels, Path(folder))
    print("package check: all three distributions build, install and load")


if __name__ == "__main__":
    main()
