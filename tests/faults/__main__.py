"""``python -m tests.faults``: makes the figures of docs/reliability.md, which stand at the end of what it prints.

Arguments are those of pytest. A longer soak: ``FAULTS_SOAK_S=600 python -m tests.faults tests/faults/test_soak.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MEASURING = ("leaving", "killing", "promises", "thousand", "soak")

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:] or [str(HERE / f"test_{name}.py") for name in MEASURING]))
