"""What cannot be undone, tried in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable


def end_of(*steps: Callable[[], object]) -> int:
    """Run the steps in a forked process: its exit code (an errno for an OSError), or minus the signal it died of."""
    pid = os.fork()
    if pid == 0:
        try:
            for step in steps:
                step()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
