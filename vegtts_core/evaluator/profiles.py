"""The filters of system calls that candidates run under.

Python and torch need too many calls to list, so theirs are deny-lists of what no computation needs: reaching into other
processes, the kernel's own machinery, the network, clocks, and ways around the filter itself. Such a call ends the
process; a call that libraries try in good faith, and can do without, fails instead.
"""

from __future__ import annotations

import errno as error_numbers
import signal

from vegtts_core.evaluator.seccomp import ALLOW, Filter, Rule, any_bit, differs, equals, errno, kill, masked

_AF_UNIX = 1
_CLONE_THREAD = 0x00010000
#: linux/sched.h: a new namespace of any kind (the one for time cannot be asked of clone).
_CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_SYSCALL_USER_DISPATCH, _PR_SET_PTRACER = 4, 22, 59, 0x59616D61
# asm-generic/ioctls.h: input pushed into a terminal; a terminal taken, whose loss makes the kernel send SIGCONT
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_TIOCSCTTY, _TIOCNOTTY = 0x540E, 0x5422
#: linux/sched.h: the low byte of clone's flags is the signal that the parent gets when the child ends.
_CSIGNAL = 0xFF
# asm-generic/fcntl.h and sockios.h: have the kernel send a signal of one's choice
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _FIOASYNC, _FIOSETOWN, _SIOCSPGRP = 8, 10, 15, 0x5452, 0x8901, 0x8902

_OTHER_PROCESSES = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd",
)  # fmt: skip
_KERNEL = (
    "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "init_module", "finit_module",
    "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "syslog", "iopl", "ioperm",
    "modify_ldt", "quotactl", "quotactl_fd", "sethostname", "setdomainname", "vhangup", "seccomp", "fanotify_init",
    "open_by_handle_at", "lookup_dcookie", "memfd_secret",
)  # fmt: skip
_NAMESPACES = (
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsmount",
    "fsconfig", "fspick", "mount_setattr",
)  # fmt: skip
_CLOCKS = ("settimeofday", "clock_settime", "clock_adjtime", "adjtimex")
#: Looked for by libraries that run without them.
_TRIED = (
    "io_uring_setup", "io_uring_enter", "io_uring_register", "name_to_handle_at", "personality", "migrate_pages",
    "move_pages", "pidfd_open", "pidfd_send_signal", "shmget", "shmat", "semget", "msgget", "mq_open",
)  # fmt: skip

_DENIED: tuple[Rule, ...] = (
    kill(*_OTHER_PROCESSES, *_KERNEL, *_NAMESPACES, *_CLOCKS),
    kill("clone", where=(any_bit(0, _CLONE_NEW),)),
    kill("socket", where=(differs(0, _AF_UNIX),)),
    kill(
        "prctl", where=(equals(0, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_SYSCALL_USER_DISPATCH, _PR_SET_PTRACER),)
    ),
    errno(error_numbers.EACCES, "socket"),  # by a name in the file system: other people's services
    # A stopped process that is sent SIGCONT, by a thread or child that is not stopped yet or by the kernel, goes on
    # while its inputs are being overwritten; and SIGCONT takes back a SIGSTOP that has not been obeyed yet.
    kill("kill", "tkill", "rt_sigqueueinfo", "pidfd_send_signal", where=(equals(1, signal.SIGCONT),)),
    kill("tgkill", "rt_tgsigqueueinfo", where=(equals(2, signal.SIGCONT),)),
    kill("clone", where=(masked(0, _CSIGNAL, signal.SIGCONT),)),
    kill("prctl", where=(equals(0, _PR_SET_PDEATHSIG), equals(1, signal.SIGCONT))),
    kill("timer_create"),
    kill("fcntl", where=(equals(1, _F_SETOWN, _F_SETSIG, _F_SETOWN_EX),)),
    kill("ioctl", where=(equals(1, _FIOASYNC, _FIOSETOWN, _SIOCSPGRP, _TIOCSCTTY, _TIOCNOTTY),)),
    errno(error_numbers.EPERM, "sched_setaffinity", "sched_setattr", "sched_setscheduler"),  # its cores are given
    errno(error_numbers.EPERM, "ioctl", where=(equals(1, _TIOCSTI, _TIOCLINUX),)),
    errno(error_numbers.ENOSYS, "clone3"),  # its flags lie in memory, out of a filter's sight; libraries use clone then
    errno(error_numbers.ENOSYS, *_TRIED),
)

ANY_PYTHON = Filter(ALLOW, _DENIED)
"""For scaffold ``module``: it may start processes (compilers), and those are under the same filter."""

ONE_PROCESS = Filter(
    ALLOW,
    (
        *_DENIED,
        kill("fork", "vfork", "execve", "execveat"),
        kill("clone", where=(masked(0, _CLONE_THREAD, 0),)),
    ),
)
"""For scaffold ``forward``, and the reference: threads, but no other process and no other program."""
