"""What is excluded, and why. Each case must still be there and must still fail, or the run fails."""

from collections.abc import Mapping

EXCLUDED: Mapping[str, str] = {}
"""From a test, as ``suite_x::TestY::test_z[parameter]``, to the reason."""
