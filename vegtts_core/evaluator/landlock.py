"""Landlock: a process gives up every file but the ones that it names, for good, whoever it is.

Needs Linux 5.13 with Landlock switched on, and no privilege. Later kernels can restrict more (moving files between
folders, truncation, TCP, signals and abstract sockets beyond the sandbox); what the running kernel knows is used.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from vegtts_core.evaluator.syscalls import numbers

# linux/landlock.h
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
#: Bits for files by version of the interface: execute to make_sym in 1, refer in 2, truncate in 3, ioctl in 5.
_FILES_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_NEWEST_FILES = (1 << 16) - 1
_TCP = 0b11
_SCOPES = 0b11  # abstract unix sockets and signals

_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result = _libc.syscall(numbers()[name], *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return int(result)


def version() -> int:
    """The kernel's version of the Landlock interface, from 1. Raises OSError where there is none."""
    return _call("landlock_create_ruleset", None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """From now on only read, list and execute below ``readable``; below ``writable`` do anything; nothing elsewhere.

    Paths may be files or folders; those that do not exist are left out. File descriptors that are open stay usable.
    Also gives up TCP and signalling processes that are not restricted likewise, where the kernel offers that. Raises
    OSError where Landlock is missing. The process must not be able to gain privileges (PR_SET_NO_NEW_PRIVS).
    """
    known = version()
    files = _FILES_BY_VERSION.get(known, _NEWEST_FILES)
    attributes = struct.pack("QQQ", files, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 8 if known < 4 else 16 if known < 6 else 24
    ruleset = _call("landlock_create_ruleset", ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _permit(ruleset, path, files & (_EXECUTE | _READ_FILE | _READ_DIR))
        for path in writable:
            _permit(ruleset, path, files)
        _call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _permit(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            access &= _FOR_FILES
        rule = struct.pack("=Qi", access, fd)
        _call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(fd)
