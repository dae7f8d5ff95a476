"""The filters of system calls for compiled kernels: one for loading, and a strict one for all that follows.

After loading, a kernel's process computes, takes memory, runs OpenMP's threads and talks on the sockets that it has.
Everything else ends it: no file can be opened, no memory made executable, no program or process started.
"""

from __future__ import annotations

import errno as error_numbers
import signal

from vegtts_core.evaluator.profiles import ONE_PROCESS
from vegtts_core.evaluator.seccomp import ALLOW, KILL, Filter, allow, equals, errno, masked

_PROT_EXEC = 4
_MAP_ANONYMOUS = 0x20
_CLONE_THREAD = 0x00010000
_STDOUT, _STDERR = 1, 2

LOADING = Filter(ALLOW, (allow("seccomp"), *ONE_PROCESS.rules))
"""As for any single process, which may also install the next filter."""


def kernel_filter(process: int) -> Filter:
    """What remains once the library of the process with this id (its own view of it) is loaded."""
    return Filter(
        KILL,
        (
            allow("recvfrom", "recvmsg", "sendto", "sendmsg", "close"),  # the evaluator's channel
            allow("write", "writev", where=(equals(0, _STDOUT, _STDERR),)),  # last words
            allow("futex", "sched_yield", "sched_getaffinity", "set_robust_list", "rseq", "gettid", "getpid", "getcpu"),
            allow("rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack", "restart_syscall"),
            allow("munmap", "mremap", "madvise", "brk", "getrandom", "clock_gettime", "exit", "exit_group"),
            allow("mmap", where=(masked(2, _PROT_EXEC, 0), masked(3, _MAP_ANONYMOUS, _MAP_ANONYMOUS))),
            allow("mprotect", where=(masked(2, _PROT_EXEC, 0),)),
            allow("clone", where=(masked(0, _CLONE_THREAD, _CLONE_THREAD),)),
            allow("tgkill", where=(equals(0, process), equals(2, signal.SIGABRT))),  # abort
            errno(error_numbers.ENOSYS, "clone3"),  # its flags lie in memory, out of a filter's sight
            errno(error_numbers.EACCES, "openat"),  # malloc looks at the machine's settings and can do without
        ),
    )
