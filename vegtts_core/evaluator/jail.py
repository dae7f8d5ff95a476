"""What a process gives up by prctl, by changing its user and by resource limits: parts of the sandbox (`sandbox`).

Everything in this module acts on the calling process and cannot be undone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534
#: Processes and threads of one candidate, counted in its own user namespace.
_PROCESS_LIMIT = 256

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def die_with_parent(parent: int) -> None:
    """Be killed when the thread of process ``parent`` that started this one ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def hide_memory() -> None:
    """Processes of the same user, and those forked from this one, can no longer read this process's memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def open_memory() -> int:
    """A descriptor through which whoever holds it reads this process's memory, until another program runs in it.

    No privilege is needed to read there, nor to open it here: only the process's memory must not be hidden meanwhile.
    """
    _prctl(_PR_SET_DUMPABLE, 1)
    try:
        return os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        hide_memory()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none of them can get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def go_first() -> None:
    """When the machine itself runs out of memory, end this process and its children before any other."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def become_nobody() -> bool:
    """Root becomes the user ``nobody``, to whom no file belongs and who cannot signal the warden.

    Returns whether it could: a root that may not change its user stays what it is.
    """
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except PermissionError:
        return False
    return True


def drop_privileges() -> None:
    """No capabilities, and no way to get any by running another program."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    _libc.capset(header, (ctypes.c_uint32 * 6)())


@dataclass(frozen=True)
class Resources:
    """What a process may use: memory beyond what is mapped now and size of a file (bytes), processor time (s), files.

    Memory is address space; with ``counts_data`` it is what the process may write to and shares with nobody: a GPU's
    driver reserves more addresses than any machine has memory, and opens more files.
    """

    memory_bytes: int
    file_bytes: int
    cpu_seconds: int
    open_files: int = 64
    counts_data: bool = False


def limit_resources(resources: Resources, own_users: bool) -> None:
    """Resource limits. ``own_users``: in a user namespace of its own, a limit on processes hits nobody else."""
    sizes = [int(number) * resource.getpagesize() for number in Path("/proc/self/statm").read_text().split()]
    kind, used = (resource.RLIMIT_DATA, sizes[5]) if resources.counts_data else (resource.RLIMIT_AS, sizes[0])
    limits = {
        kind: used + resources.memory_bytes,
        resource.RLIMIT_FSIZE: resources.file_bytes,
        resource.RLIMIT_CPU: resources.cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: resources.open_files,
    }
    if own_users:
        limits[resource.RLIMIT_NPROC] = _PROCESS_LIMIT
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; a flood of prints should end the process
