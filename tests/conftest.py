"""What every test run shares."""

import gc
from collections.abc import Iterator

import hypothesis
import pytest

from tests.hubs import LANES

# A slow or busy machine is no failure of a property: no time limit for each example, and none for drawing the data.
hypothesis.settings.register_profile(
    "agenthub", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("agenthub")


@pytest.fixture(params=LANES, ids=lambda lane: f"{lane[0]}-client-{lane[1]}-adapter")
def lane(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which dialect the client speaks, and through which adapter the hub asks: a test runs once for each."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail the module that leaves a connection or a file open, not whichever is under way when that is noticed."""
    yield
    gc.collect()
