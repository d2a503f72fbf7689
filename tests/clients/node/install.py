"""Installs the npm packages of package-lock.json into the folder named; without npm it says so and ends well."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    """Run `npm ci`, unless the folder has what the lock says."""
    lock, installed = HERE / "package-lock.json", folder / "installed.json"
    if installed.is_file() and installed.read_bytes() == lock.read_bytes():
        return
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not here: its clients will be skipped")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder / name)
    subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True, timeout=120)
    shutil.copy(lock, installed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
