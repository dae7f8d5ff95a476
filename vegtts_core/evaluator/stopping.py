"""What a process has done, looked up from outside: whether it has really stopped, and whether it computed on the way.

A signal to stop takes effect when the process is next scheduled, which can take milliseconds on a busy machine. Its
threads may use that time. What they use shows on the process's own clock, however long the stop took.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_STOPPED = b"TtZX"
_CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h
#: Between two looks, in seconds: a thread that has yet to stop may need the core that this one is looking from, and
#: would otherwise get it only when the scheduler's slice is over, milliseconds later.
_PAUSE = 20e-6


def process_id(pidfd: int) -> int:
    """The id, in this process's own view, of the process behind a pidfd; -1 once it is gone."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)


def processor_seconds(process: int) -> float:
    """Processor time that all threads of a process have used so far; 0 once it is gone.

    What a thread of another process uses shows when it leaves its core, at the next tick, or when it asks itself.
    """
    if process < 0:
        return 0.0
    try:
        return time.clock_gettime((~process << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def await_stopped(process: int, seconds: float) -> float | None:
    """Wait until every thread of a process has stopped, at most ``seconds``; its processor time by then (s).

    0 if it is gone, None if it has not stopped. A thread says that it has stopped a moment before it leaves its core,
    where the clock jumps: it has to be the same before and after the threads were looked at.
    """
    deadline = time.monotonic() + seconds
    while True:
        used = processor_seconds(process)
        if is_stopped(process) and processor_seconds(process) == used:
            return used
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)


def is_stopped(process: int) -> bool:
    """Whether all threads of a process have stopped, or it is gone. One that begins or ends meanwhile has not."""
    folder = f"/proc/{process}/task"
    try:
        threads = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return True
    try:
        return all(_state(process, thread) in _STOPPED for thread in threads) and os.listdir(folder) == threads
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread has ended, or all of them: the next look tells


def page_faults(process: int) -> int:
    """How often a process has touched a page of memory for the first time, all its threads together; 0 once it is gone.

    That of those threads that have ended is in it.
    """
    try:
        return int(_after_name(f"/proc/{process}/stat").split()[7])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _state(process: int, thread: str) -> int:
    return _after_name(f"/proc/{process}/task/{thread}/stat")[0]


def _after_name(path: str) -> bytes:
    """What stands behind the name, which may hold anything: the state and, from place 1 on, numbers."""
    with open(path, "rb") as file:
        text = file.read()
    return text[text.rindex(b")") + 2 :]
