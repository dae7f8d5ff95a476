"""One measurement at a time per device, across all evaluators of a user on this machine.

Whoever runs candidates holds the lock together with others; whoever measures holds it alone. So nothing that an
evaluator of this user started runs while another one measures.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class TimingLock:
    """An advisory lock on a file in the user's runtime directory, or in the folder for temporary files."""

    def __init__(self, device: str) -> None:
        folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        self.path = Path(folder) / f"vegtts-core-{os.getuid()}-{device}.lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While candidates run that are not measured."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """While calls are timed. Inside `running`; waits until every other evaluator is between two candidates."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def close(self) -> None:
        """Give the lock's file descriptor back."""
        os.close(self._fd)
