"""Lets tox see the interpreters that pyenv installed, which are not on PATH under their own names.

pyenv's shims are no help: `python3.12` is on PATH, but fails unless that version was made global, and uv stops at it.
So the real directories go in front of the PATH of this tox run. Without pyenv nothing changes.
"""

import os
import re
from pathlib import Path

from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Put pyenv's CPythons on PATH, the newest first."""
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    released = [path for path in root.glob("versions/3.*/bin") if re.fullmatch(r"3\.\d+\.\d+", path.parent.name)]
    released.sort(key=lambda path: [int(part) for part in path.parent.name.split(".")], reverse=True)
    os.environ["PATH"] = os.pathsep.join([*map(str, released), os.environ.get("PATH", os.defpath)])
