"""What every test run shares."""

import hypothesis

# A slow or busy machine is no failure of a property: no time limit for each example, and none for drawing the data.
hypothesis.settings.register_profile(
    "agenthub", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("agenthub")
