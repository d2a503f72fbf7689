"""Speaker: the one of several workers that tells what all of them would tell alike."""

from __future__ import annotations

import fcntl
from typing import IO

import attrs


@attrs.frozen
class Speaker:
    """Held by the first of ``workers`` processes that asks, until its end; ``file`` is open in all of them."""

    file: IO[bytes]
    workers: int

    def is_me(self) -> bool:
        """Say whether this process is the speaker, and make it that where there is none."""
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def starts(self, age: int) -> bool:
        """Say whether this process is to tell what is told at the start; ``age`` is its number in order of birth.

        One that replaces another says nothing of it again.
        """
        return age <= self.workers and self.is_me()
