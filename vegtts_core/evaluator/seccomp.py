"""Filters of system calls: rules in, a BPF program out, installed on the calling process for good.

A filter is a list of rules and what happens to every call that no rule matches. The first rule that matches decides.
A rule names calls and, where the call's arguments matter, conditions on them (all must hold). Filters stack: a process
may install several, and the strictest answer counts. What a process installs, its threads and children have as well.

    ALLOWED = Filter(default=KILL, rules=(
        allow("read", "write", "futex"),
        allow("mprotect", where=(masked(2, PROT_EXEC, 0),)),
        errno(EPERM, "ioctl"),
    ))
    ALLOWED.install()

This module knows nothing of candidates; `profiles` holds the filters that they run under.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

from vegtts_core.evaluator.syscalls import ARCHITECTURES, architecture, numbers

# linux/seccomp.h
_SET_MODE_FILTER = 1
_TSYNC = 1
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000
# linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
# linux/bpf_common.h
_LOAD, _AND, _JUMP, _EQUAL, _GREATER_OR_EQUAL, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
#: Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
#: Calls of the x32 ABI share the architecture and have this bit set; none is ever allowed.
_X32 = 0x40000000


@dataclass(frozen=True)
class Action:
    """What happens to a call: ``KILL``, ``ALLOW`` or ``fails_with(errno)``."""

    value: int


KILL = Action(_KILL_PROCESS)
"""The whole process dies of SIGSYS."""
ALLOW = Action(_ALLOW)


def fails_with(error: int) -> Action:
    """The call does nothing and returns this errno."""
    return Action(_ERRNO | error)


@dataclass(frozen=True)
class Condition:
    """Argument number ``place`` (from 0), as an unsigned 64-bit number and after ``& mask``, is one of ``values``.

    With ``negated`` it is none of them.
    """

    place: int
    mask: int
    values: tuple[int, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        if self.mask >> 32 and (len(self.values) > 1 or self.negated):
            raise ValueError("beyond 32 bits an argument can only be held against one value")


def equals(place: int, *values: int) -> Condition:
    """The argument's low 32 bits are one of ``values``: for the many arguments that are an ``int`` in C."""
    return Condition(place, 0xFFFFFFFF, values)


def masked(place: int, mask: int, *values: int) -> Condition:
    """``argument & mask`` is one of ``values``: for flags."""
    return Condition(place, mask, values)


def differs(place: int, *values: int) -> Condition:
    """The argument's low 32 bits are none of ``values``."""
    return Condition(place, 0xFFFFFFFF, values, negated=True)


def any_bit(place: int, mask: int) -> Condition:
    """At least one bit of ``mask`` is set in the argument's low 32 bits."""
    return Condition(place, mask, (0,), negated=True)


@dataclass(frozen=True)
class Rule:
    """Calls, conditions that must all hold, and what then happens."""

    action: Action
    calls: tuple[str, ...]
    where: tuple[Condition, ...] = ()


def allow(*calls: str, where: tuple[Condition, ...] = ()) -> Rule:
    """These calls are made."""
    return Rule(ALLOW, calls, where)


def kill(*calls: str, where: tuple[Condition, ...] = ()) -> Rule:
    """These calls end the process (SIGSYS)."""
    return Rule(KILL, calls, where)


def errno(error: int, *calls: str, where: tuple[Condition, ...] = ()) -> Rule:
    """These calls return ``error``."""
    return Rule(fails_with(error), calls, where)


@dataclass(frozen=True)
class Filter:
    """Rules in order, and what happens to every other call. Calls that this machine does not have are left out."""

    default: Action
    rules: tuple[Rule, ...]

    def program(self) -> bytes:
        """The BPF program, eight bytes an instruction. Raises KeyError for a name that no architecture has."""
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self._instructions())

    def install(self) -> None:
        """Bind the calling process, all its threads and everything it starts. Raises OSError if the kernel refuses."""
        libc = ctypes.CDLL(None, use_errno=True)
        program = self.program()
        buffer = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")
        if libc.syscall(numbers()["seccomp"], _SET_MODE_FILTER, _TSYNC, ctypes.c_char_p(header)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"the system call filter was refused: {os.strerror(error)}")

    def _instructions(self) -> list[tuple[int, int, int, int]]:
        machine = architecture()
        program = [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUAL, 1, 0, machine),
            (_RETURN, 0, 0, KILL.value),
            (_LOAD, 0, 0, _NUMBER),
        ]
        if machine == ARCHITECTURES["x86_64"]:
            program += [(_GREATER_OR_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, KILL.value)]
        known = numbers()
        for rule in self.rules:
            block = _block(rule)
            for name in rule.calls:
                if name in known:
                    program += [(_EQUAL, 0, len(block), known[name]), *block]
        return [*program, (_RETURN, 0, 0, self.default.value)]


def _block(rule: Rule) -> list[tuple[int, int, int, int]]:
    """What is done once the number matches: the conditions, then the answer; falls through if one does not hold."""
    end: list[tuple[int, int, int, int]] = [(_RETURN, 0, 0, rule.action.value)]
    if not rule.where:
        return end
    end.append((_LOAD, 0, 0, _NUMBER))  # where a failed condition goes: the next rule finds the number again
    for condition in reversed(rule.where):
        end = _condition(condition, len(end)) + end
    return end


def _condition(condition: Condition, rest: int) -> list[tuple[int, int, int, int]]:
    """Go on if the condition holds, else jump to the last of the ``rest`` instructions that follow."""
    low_place = _ARGUMENTS + 8 * condition.place  # both architectures are little-endian
    halves = ((low_place, condition.mask & 0xFFFFFFFF, 0), (low_place + 4, condition.mask >> 32, 32))
    code: list[tuple[int, int, int, int]] = []
    for place, mask, shift in reversed(halves):
        if not mask:
            continue
        wanted = sorted({value >> shift & mask for value in condition.values})
        tests: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, place), (_AND, 0, 0, mask)]
        away = rest - 1 + len(code)
        for index, value in enumerate(wanted):
            left = len(wanted) - 1 - index
            if condition.negated:
                tests.append((_EQUAL, left + away, 0, value))
            else:
                tests.append((_EQUAL, left, 0 if left else away, value))
        code = tests + code
    return code
