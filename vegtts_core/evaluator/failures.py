"""What a candidate's process did, as an error kind and one sentence: from what it admits, and from how it ended."""

from __future__ import annotations

import signal

from vegtts_core.evaluator.messages import ADMITTED, Program, one_line
from vegtts_core.evaluator.settings import Limits
from vegtts_core.evaluator.types import ErrorKind

_FAULTS = (signal.SIGSEGV, signal.SIGBUS)
_OUTSIDE = "It touched memory that is not its own: beyond a tensor's end, or before its start (SIGSEGV)."
#: What CUDA says of a kernel that left its memory, or wrote where it may only read.
_DEVICE_FAULTS = ("illegal memory access", "misaligned address", "invalid address space", "invalid program counter")
_OUTSIDE_ON_DEVICE = "It touched memory on the device that is not its own, or wrote where it may only read."
_UNBUILT = {
    Program.MODULE: "Its module cannot be built: {}.",
    Program.COMPILER: "It does not compile: {}.",
    Program.NVRTC: "It does not compile: {}.",
    Program.KERNEL: "Its library cannot be loaded: {}.",
}

#: What a process is doing until it is ready.
BUILDING = {
    Program.MODULE: "building its module",
    Program.COMPILER: "compiling",
    Program.NVRTC: "compiling",
    Program.KERNEL: "loading its library",
}


class CandidateFailure(Exception):
    """A candidate's process did not do what was asked. ``fault``: it died touching memory that it must not touch."""

    def __init__(self, kind: ErrorKind, reason: str, fault: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.fault = fault


def admitted(message: bytes, program: Program, limits: Limits, on_device: bool) -> CandidateFailure:
    """The failure that a process admits: ``message`` holds an error kind, a newline and its own words."""
    name, _, text = message.decode(errors="replace").partition("\n")
    kind = next((kind for kind in ADMITTED if kind.value == name), None)
    if kind is None:
        return out_of_turn()
    if on_device and kind is ErrorKind.EXCEPTION and any(words in text for words in _DEVICE_FAULTS):
        return CandidateFailure(ErrorKind.OUT_OF_BOUNDS, _OUTSIDE_ON_DEVICE, fault=True)
    room = "memory than there is" if on_device else f"than {limits.memory_mib} MiB"
    sentence = {
        ErrorKind.COMPILE_ERROR: _UNBUILT[program],
        ErrorKind.EXCEPTION: "forward raised {}.",
        ErrorKind.OUT_OF_MEMORY: f"It needed more {room}: {{}}.",
    }.get(kind, "{}.")
    said = one_line(text).rstrip(".?") or "no reason given"
    return CandidateFailure(kind, sentence.format(said[:1].upper() + said[1:] if sentence == "{}." else said))


def ended(code: int, number: int, program: Program, limits: Limits) -> CandidateFailure:
    """The failure of a process that ended by itself, with this exit code, or of this signal (0 if of none)."""
    if number == signal.SIGXCPU:
        return CandidateFailure(ErrorKind.TIMEOUT, "It used up its processor time.")
    if number == signal.SIGXFSZ:
        return flood(limits)
    if number == signal.SIGSYS:
        return CandidateFailure(
            ErrorKind.FORBIDDEN_CALL, "It was ended for a system call that the sandbox forbids (SIGSYS)."
        )
    if number in _FAULTS and program is Program.KERNEL:
        return CandidateFailure(ErrorKind.OUT_OF_BOUNDS, _OUTSIDE, fault=True)
    if number:
        name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
        return CandidateFailure(ErrorKind.CRASH, f"Its process died of {name}.", fault=number in _FAULTS)
    return CandidateFailure(ErrorKind.CRASH, f"Its process left early, with exit code {code}.")


def flood(limits: Limits) -> CandidateFailure:
    """It printed more than the limit."""
    return CandidateFailure(
        ErrorKind.OUTPUT_FLOOD, f"It printed more than {limits.printed_bytes} bytes, or wrote such a file."
    )


def out_of_turn() -> CandidateFailure:
    """It sent what nobody had asked for."""
    return CandidateFailure(ErrorKind.CRASH, "It wrote to the evaluator's channel.")
