"""What a process gives up before it runs a candidate: its user, its view of other processes, the network, resources.

Namespaces and the change of user are taken where the machine grants them and skipped where it does not; resource
limits always hold. System-call filters and file access rules are not here yet.

Everything in this module acts on the calling process and cannot be undone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

_NOBODY = 65534
#: Processes and threads of one candidate, counted in its own user namespace.
_PROCESS_LIMIT = 256

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# linux/sched.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_CLONE_NEWIPC = 0x08000000
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


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none of them can get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def go_first() -> None:
    """When the machine itself runs out of memory, end this process and its children before any other."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _unshare(flags: int) -> bool:
    return _libc.unshare(flags) == 0


def leave_others() -> bool:
    """Leave the network and other processes behind: the next child is the first of its process namespace.

    Returns whether this took a user namespace of its own, where nobody else's processes are counted (not for root).
    """
    alone = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    if os.geteuid() == 0:
        _unshare(alone)
        return False
    return _unshare(_CLONE_NEWUSER | alone)


def leave_root() -> bool:
    """Root becomes the user ``nobody``, to whom no file belongs and who cannot signal the warden.

    Modules that were not imported before may then be out of reach, if the interpreter lives in a folder that only root
    can read. Returns whether the process is now in a user namespace of its own.
    """
    if os.geteuid() != 0:
        return False
    with contextlib.suppress(PermissionError):  # a root that may not change its user stays what it is
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    return _unshare(_CLONE_NEWUSER)


def drop_privileges() -> None:
    """No capabilities, and no way to get any by running another program."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    _libc.capset(header, (ctypes.c_uint32 * 6)())


def limit_resources(memory_bytes: int, file_bytes: int, cpu_seconds: int, own_users: bool) -> None:
    """Resource limits: ``memory_bytes`` of address space beyond what is mapped now, size of files, processor time.

    ``own_users``: the process is in its own user namespace, so that a limit on processes hits nobody else.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    if own_users:
        limits[resource.RLIMIT_NPROC] = _PROCESS_LIMIT
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; a flood of prints should end the process
