"""``python -m tests.fuzz``: schemathesis against a hub in front of the stand-in. Ends with 1 if it found something.

Arguments are those of ``schemathesis run``, for example ``--include-path /api/chat --max-examples 1000``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from agenthub.cli.server import Server
from agenthub.log import configure_logging
from agenthub.settings import BackendSettings, LogSettings, Settings
from agenthub.standin import Standin, running

HERE = Path(__file__).parent
LIMIT_S = 300


async def main(arguments: list[str]) -> int:
    """Return schemathesis's exit status; raises TimeoutError after LIMIT_S seconds."""
    log = LogSettings(level="error")  # only crashes are to be seen
    configure_logging(log)
    async with running(Standin()) as upstream:
        settings = Settings(port=0, backends={"ollama": BackendSettings(url=upstream)}, log=log, drain_s=1)
        async with Server(settings) as url:
            config = ("--config-file", str(HERE / "schemathesis.toml"))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", *config, "run", f"{url}/openapi.json", *arguments),
                env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"},
            )
            try:
                async with asyncio.timeout(LIMIT_S):
                    return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
