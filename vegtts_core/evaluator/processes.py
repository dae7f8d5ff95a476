"""The evaluator's side of the processes: start the warm one, have it fork, send commands, hold the stopwatch.

What the candidate's process claims is not believed. Its replies only say when to look; a call is measured from the
command to the reply, after which the process is stopped, its inputs are overwritten, and only then is it let go on to
write its result down. So a result that still depends on the inputs after the clock stopped is lost, and the time that
writing takes is measured too. This module knows neither which results are right nor what the times mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from vegtts_core.errors import UserError
from vegtts_core.evaluator.messages import ADMITTED, MESSAGE_LIMIT, Assignment, Command, Reply, one_line
from vegtts_core.evaluator.settings import Limits
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warden import ENDED

#: Idle threads sleep at once instead of spinning on the core that another process is being timed on.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_NUM_THREADS": "1",
}
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vegtts_core.evaluator.zygote import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_START_SECONDS = 120.0
#: How long killing a process may take before the evaluator goes on without waiting for it.
_END_SECONDS = 10.0
_FAULTS = (signal.SIGSEGV, signal.SIGBUS)


class CandidateFailure(Exception):
    """A candidate's process did not do what was asked. ``fault``: it died touching memory that it must not touch."""

    def __init__(self, kind: ErrorKind, reason: str, fault: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.fault = fault


class _WarmProcessLost(Exception):
    """The warm process is gone."""


@dataclass(frozen=True)
class Call:
    """One timed call, in seconds: from the command to the reply, and what writing the result down took after that."""

    seconds: float
    writing_seconds: float


class Process:
    """A process that runs one module: a candidate's, or (in exactly the same way) the reference's."""

    def __init__(self, control: socket.socket, status: socket.socket, prints: int, limits: Limits) -> None:
        self._control = control
        self._status = status
        self._prints = prints
        self._limits = limits
        self._pidfd = -1
        self._stopped = False
        self._deadline = time.monotonic() + limits.candidate_seconds
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(status, select.POLLIN)

    def await_start(self) -> None:
        """Wait until the process is forked. Raises if the warm process died instead."""
        self._status.settimeout(_START_SECONDS)
        try:
            message, fds, _, _ = socket.recv_fds(self._status, 16, 1)
        except OSError:
            message, fds = b"", []
        if not message or not fds:
            raise _WarmProcessLost
        self._pidfd = fds[0]

    def await_ready(self) -> None:
        """Wait until the module is built. Raises `CandidateFailure`."""
        self._expect(Reply.READY, "building its module")

    @property
    def seconds_left(self) -> float:
        """Wall time until this process's limit, in seconds."""
        return self._deadline - time.monotonic()

    def live_without_limit(self) -> None:
        """Lift the limit on the whole process's wall time: for the reference, which serves many candidates."""
        self._deadline = float("inf")

    def load_weights(self) -> None:
        """Have the shared weights copied into the module. Raises `CandidateFailure`."""
        self._send(Command.LOAD_WEIGHTS)
        self._expect(Reply.LOADED, "loading weights")

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One call of ``forward``, timed. Afterwards the result is in the output arena and the process is stopped.

        ``when_done`` runs, with the process stopped, between the end of the timed region and the writing of the
        result. Raises `CandidateFailure`.
        """
        start = self._send(Command.CALL)
        done = self._expect(Reply.DONE, "running forward")
        self._stop()
        if when_done is not None:
            when_done()
        write = self._send(Command.WRITE)
        written = self._expect(Reply.WRITTEN, "writing its result")
        self._stop()
        if os.fstat(self._prints).st_size >= self._limits.printed_bytes:
            raise self._flood()
        return Call(done - start, written - write)

    def close(self) -> None:
        """End the process and everything that it started. Does nothing the second time."""
        if self._prints < 0:
            return
        self._end()
        with contextlib.suppress(OSError):
            while self._status.recv(ENDED.size):
                pass  # until the warden is gone as well
        self._control.close()
        self._status.close()
        os.close(self._prints)
        self._prints = -1
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def _send(self, command: Command) -> float:
        """Let the process go on and send a command; the time just before sending."""
        try:
            if self._control.recv(1, socket.MSG_DONTWAIT):
                raise self._out_of_turn()
        except BlockingIOError:
            pass
        except OSError:
            raise self._death(0.0) from None
        if self._stopped:
            self._signal(signal.SIGCONT)
            self._stopped = False
        try:
            start = time.perf_counter()
            self._control.send(command.value)
            return start
        except OSError:
            raise self._death(0.0) from None

    def _expect(self, reply: Reply, doing: str) -> float:
        """Wait for ``reply``; the time of its arrival."""
        limit = min(self._limits.call_seconds, self.seconds_left)
        ready = self._poll.poll(max(limit, 0.0) * 1000)
        arrived = time.perf_counter()
        if not ready:
            self._end()
            raise CandidateFailure(ErrorKind.TIMEOUT, f"It was ended after {limit:.3g} s of {doing}.")
        if not any(fd == self._control.fileno() for fd, _ in ready):
            raise self._death(_END_SECONDS)
        try:
            message = self._control.recv(MESSAGE_LIMIT)
        except OSError:
            message = b""
        if message == reply.value:
            return arrived
        if not message:
            raise self._death(_END_SECONDS)
        if message[:1] == Reply.FAILED.value:
            raise self._admitted(message[1:])
        raise self._out_of_turn()

    def _stop(self) -> None:
        self._signal(signal.SIGSTOP)
        self._stopped = True

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _end(self) -> bytes:
        """Have the warden kill everything; what it reports, if anything."""
        try:
            self._status.settimeout(_END_SECONDS)
            self._status.send(b"end")
            return self._status.recv(ENDED.size)
        except OSError:
            return b""

    def _admitted(self, message: bytes) -> CandidateFailure:
        name, _, text = message.decode(errors="replace").partition("\n")
        kind = next((kind for kind in ADMITTED if kind.value == name), None)
        if kind is None:
            return self._out_of_turn()
        if os.fstat(self._prints).st_size >= self._limits.printed_bytes:
            return self._flood()
        sentence = {
            ErrorKind.COMPILE_ERROR: "Its module cannot be built: {}.",
            ErrorKind.EXCEPTION: "forward raised {}.",
            ErrorKind.OUT_OF_MEMORY: f"It needed more than {self._limits.memory_mib} MiB: {{}}.",
        }.get(kind, "{}.")
        said = one_line(text).rstrip(".") or "no reason given"
        return CandidateFailure(kind, sentence.format(said[:1].upper() + said[1:] if sentence == "{}." else said))

    def _out_of_turn(self) -> CandidateFailure:
        return CandidateFailure(ErrorKind.CRASH, "It wrote to the evaluator's channel.")

    def _flood(self) -> CandidateFailure:
        return CandidateFailure(
            ErrorKind.OUTPUT_FLOOD, f"It printed more than {self._limits.printed_bytes} bytes, or wrote such a file."
        )

    def _death(self, wait: float) -> CandidateFailure:
        """What the warden says of a process that ended by itself."""
        self._status.settimeout(wait or _END_SECONDS)
        try:
            report = self._status.recv(ENDED.size)
        except OSError:
            report = b""
        if len(report) != ENDED.size:
            report = self._end()
        if os.fstat(self._prints).st_size >= self._limits.printed_bytes:
            return self._flood()
        if len(report) != ENDED.size:
            return CandidateFailure(ErrorKind.CRASH, "Its process ended, and so did the one that watched it.")
        _, code, number = ENDED.unpack(report)
        if number == signal.SIGXCPU:
            return CandidateFailure(ErrorKind.TIMEOUT, "It used up its processor time.")
        if number == signal.SIGXFSZ:
            return self._flood()
        if number:
            name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
            return CandidateFailure(ErrorKind.CRASH, f"Its process died of {name}.", fault=number in _FAULTS)
        return CandidateFailure(ErrorKind.CRASH, f"Its process left early, with exit code {code}.")


class WarmProcess:
    """The process that forks all others. It is started when first needed and again if it is lost."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise UserError("The evaluator needs Linux: run it in a Linux machine or container.")
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def start(self) -> None:
        """Import torch in a new process. Takes a second or two; raises UserError if the process does not come up."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = os.memfd_create("warm-process-log", os.MFD_CLOEXEC)
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, path, str(os.getpid()), str(theirs.fileno())],
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._requests = ours
        ours.settimeout(_START_SECONDS)
        try:
            ready = ours.recv(16)
        except OSError:
            ready = b""
        said = os.pread(log, 4096, max(0, os.fstat(log).st_size - 4096)).decode(errors="replace").strip()
        os.close(log)
        if not ready:
            self.close()
            last = one_line(said.splitlines()[-1]) if said else "it gave no reason"
            raise UserError(f"The evaluator's warm process did not start ({last}): check that torch imports.")

    def spawn(self, assignment: Assignment, inputs: Arena, weights: Arena, output: Arena, limits: Limits) -> Process:
        """A new process for ``assignment``; its module is not built yet."""
        try:
            return self._spawn(assignment, inputs, weights, output, limits)
        except _WarmProcessLost:
            self.start()
        try:
            return self._spawn(assignment, inputs, weights, output, limits)
        except _WarmProcessLost:
            raise UserError(
                "The evaluator's warm process ended twice in a row: check the memory that is left on this machine."
            ) from None

    def _spawn(self, assignment: Assignment, inputs: Arena, weights: Arena, output: Arena, limits: Limits) -> Process:
        if self._requests is None:
            raise _WarmProcessLost
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status, their_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        prints = os.memfd_create("prints", os.MFD_CLOEXEC)
        letter = os.memfd_create("assignment", os.MFD_CLOEXEC)
        process = Process(control, status, prints, limits)
        try:
            with their_control, their_status, open(letter, "wb") as file:
                file.write(pickle.dumps(assignment))
                file.flush()
                fds = [letter, inputs.fd, weights.fd, output.fd, prints, their_control.fileno(), their_status.fileno()]
                socket.send_fds(self._requests, [b"fork"], fds)
            process.await_start()
        except (OSError, _WarmProcessLost):
            process.close()
            raise _WarmProcessLost from None
        except BaseException:
            process.close()
            raise
        return process

    def close(self) -> None:
        """End the warm process. Processes that it forked end when their `Process` is closed."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
