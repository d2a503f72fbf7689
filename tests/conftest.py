"""What every test run shares."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

if sys.dont_write_bytecode:
    # A process that compiles all that it imports takes twice as long to start, and the tests start some 400 of them.
    # The sources' own folders stay as they are.
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

import hypothesis
import pytest

from agenthub.standin import Standin, running
from tests.fast_clock import speed_up
from tests.hubs import LANES, RunningHub, running_hub

_OF_THE_SHELL = {"COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"}
_OF_THE_NETWORK = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSLKEYLOGFILE"}
_OF_SDKS = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OLLAMA_API_KEY"}
# What somebody has in the environment of a shell decides neither what a test prints nor whom it asks.
for _name in list(os.environ):
    if _name.upper() in _OF_THE_SHELL | _OF_THE_NETWORK | _OF_SDKS:
        del os.environ[_name]

# A slow or busy machine is no failure of a property: no time limit for each example, and none for drawing the data.
hypothesis.settings.register_profile(
    "agenthub", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("agenthub")


@pytest.fixture(params=LANES, ids=lambda lane: f"{lane[0]}-client-{lane[1]}-adapter")
def lane(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which dialect the client speaks, and through which adapter the hub asks: a test runs once for each."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def standin() -> Standin:
    """The stand-in as anyone gets it; a module of tests may have one of its own."""
    return Standin()


@pytest.fixture
def hub_settings() -> dict[str, Any]:
    """What ``running_hub`` gets for ``hub``: a module of tests says what it needs."""
    return {}


@pytest.fixture
async def hub(standin: Standin, hub_settings: dict[str, Any]) -> AsyncIterator[RunningHub]:
    """A hub in front of ``standin``."""
    async with running(standin) as upstream, running_hub(upstream, **hub_settings) as running_one:
        yield running_one


@pytest.fixture
async def fast_clock() -> None:
    """For tests of time-outs: they wait for a tenth of the time, see tests/fast_clock.py."""
    speed_up()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail the module that leaves a connection or a file open, not whichever is under way when that is noticed."""
    yield
    gc.collect()
    gc.freeze()  # again: the hub, and tests of it, let the collector see everything after a large body


def pytest_configure(config: pytest.Config) -> None:
    """Hand tests out in small parts, so that no process is left alone with the slow ones."""
    if getattr(config.option, "maxschedchunk", 0) is None:
        config.option.maxschedchunk = 16


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected out of all later garbage collections: these take a second, and tests make hundreds."""
    gc.collect()
    gc.freeze()
