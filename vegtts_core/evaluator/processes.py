"""The evaluator's side of one process: send commands, hold the stopwatch, say how it ended.

What the candidate's process claims is not believed. Its replies only say when to look; a call is measured from the
command to the reply, after which the process is stopped, its inputs are overwritten, and only then is it let go on to
write its result down. So a result that still depends on the inputs after the clock stopped is lost, and the time that
writing takes is measured too. Of what may be at work after its answer (a kernel's threads, any Python) nothing is
awaited but the stop, and processor time until then is charged: a kernel has written its result by then, any Python has
said where it lies, and it is read there while the process is stopped. A stopped process must not have moved when it is
told to go on. This module knows neither which results are right nor what the times mean.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from vegtts_core.evaluator.cores import spread
from vegtts_core.evaluator.failures import BUILDING, CandidateFailure, admitted, ended, flood, out_of_turn
from vegtts_core.evaluator.messages import ADDRESS, MESSAGE_LIMIT, Assignment, Command, Program, Reply, letter_of
from vegtts_core.evaluator.reading import Place, read_result
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.settings import Limits
from vegtts_core.evaluator.stopping import await_stopped, is_stopped, page_faults, process_id, processor_seconds
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warden import ENDED, STOP, STOPPED_MANY, STOPPED_ONE

#: How long a process may take to start.
START_SECONDS = 120.0
#: How long killing a process may take before the evaluator goes on without waiting for it.
_END_SECONDS = 10.0
#: What a stopped process may still use: a thread that was put off on its last steps to the stop takes them later.
_LAST_STEPS_SECONDS = 20e-6
#: Processor time that honest processes use between their answer and their stop: 0.02 ms, and rarely more than this (of
#: 700 calls on a busy machine two did, and were charged).
_IDLE_SECONDS = 0.05e-3
#: More than that is charged to its call, up to here: a virtual machine that is itself put off counts as work.
_LINGERING_SECONDS = 5e-3


class WarmProcessLost(Exception):
    """The warm process is gone."""


class Process:
    """A process that runs one module: a candidate's, or (in exactly the same way) the reference's."""

    def __init__(
        self,
        control: socket.socket,
        status: socket.socket,
        prints: int,
        limits: Limits,
        any_python: bool,
        program: Program,
        on_device: bool = False,
        place: Place | None = None,
    ) -> None:
        """``place``: where its result goes, if that is read out of its memory (`Assignment.is_read`)."""
        self._control = control
        self._status = status
        self._prints = prints
        self._limits = limits
        self._pidfd = self._id = -1
        self._any_python = any_python
        self._program = program
        self._on_device = on_device
        self._calling = "running its kernel" if self._program is Program.KERNEL else "running forward"
        self._place = place
        self._memory = -1
        self._address = 0
        self._stopped = False
        #: Processor seconds of all its threads when it last answered, and when it was last seen stopped.
        self._used_at_answer = self._used_at_stop = 0.0
        self._cores: Sequence[int] = ()
        #: Its threads when it was last seen to where they run.
        self._spread: frozenset[int] = frozenset()
        self._waits = False
        self._report = b""
        self._deadline = time.monotonic() + limits.candidate_seconds
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(status, select.POLLIN)

    def await_start(self) -> None:
        """Wait until the process is forked. Raises if the warm process died instead."""
        self._status.settimeout(START_SECONDS)
        try:
            message, fds, _, _ = socket.recv_fds(self._status, 16, 1)
        except OSError:
            message, fds = b"", []
        if not message or not fds:
            raise WarmProcessLost
        self._pidfd = fds[0]
        self._id = process_id(self._pidfd)

    def await_waiting(self) -> None:
        """Wait until a process without an assignment has started CUDA. Raises `CandidateFailure` if it does not."""
        if not self._waits:
            self._expect(Reply.WAITING, "starting CUDA", START_SECONDS)
            self._waits = True

    def assign(self, assignment: Assignment, arenas: Sequence[int]) -> None:
        """Give a waiting process its assignment, with the file descriptors of inputs, weights and output.

        Raises `CandidateFailure` if the process is gone.
        """
        self.await_waiting()
        letter = letter_of(assignment)
        try:
            socket.send_fds(self._control, [b"a"], [letter, *arenas])
        except OSError:
            raise self._death(0.0) from None
        finally:
            os.close(letter)
        self._deadline = time.monotonic() + self._limits.candidate_seconds

    def await_ready(self) -> None:
        """Wait until the module is built. Raises `CandidateFailure`."""
        limit = self._limits.build_seconds if self._any_python else self._limits.call_seconds
        if self._place is not None:
            self._await_memory()
        self._deadline = time.monotonic() + limit
        self._expect(Reply.READY, BUILDING[self._program], limit)
        self.stop()
        self._deadline = time.monotonic() + self._limits.candidate_seconds

    def _await_memory(self) -> None:
        """Wait for the descriptor of its memory: the first message, from before any candidate's code has run."""
        self._poll.poll(START_SECONDS * 1000)
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 1, 1, socket.MSG_DONTWAIT)
        except OSError:
            message, fds = b"", []
        if message != Reply.MEMORY.value or not fds:
            raise self._death(_END_SECONDS)
        self._memory = fds[0]

    @property
    def cores(self) -> Sequence[int]:
        """Those that it was given, in order, whichever its threads are told to run on; none once it is gone."""
        if not self._cores:
            with contextlib.suppress(OSError):
                self._cores = sorted(os.sched_getaffinity(self._id))
        return self._cores

    @property
    def seconds_left(self) -> float:
        """Wall time until this process's limit, in seconds."""
        return self._deadline - time.monotonic()

    @property
    def page_faults(self) -> int:
        """How many pages of memory it has touched for the first time so far."""
        return page_faults(self._id)

    def grant(self, seconds: float) -> None:
        """Move the limit on wall time: so long it was the evaluator that waited."""
        self._deadline += seconds

    def live_without_limit(self) -> None:
        """Lift the limit on the whole process's wall time: for the reference, which serves many candidates."""
        self._deadline = float("inf")

    def load_weights(self) -> None:
        """Have the shared weights copied into the module. Raises `CandidateFailure`."""
        self._send(Command.LOAD_WEIGHTS)
        self._expect(Reply.LOADED, "loading weights")
        self.stop()

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One call of ``forward`` or the kernel, timed. Then the result is in the output arena, the process stopped.

        ``when_done`` runs, with the process stopped, between the end of the timed region and the writing of the
        result. A kernel has written it by then, and any Python writes nothing: what is there when the process stops is
        the result. Raises `CandidateFailure`.
        """
        start = self.begin()
        done = self.await_done()
        is_there = self._program is Program.KERNEL or self._place is not None
        if is_there:
            done += self._stop_at_once()
        else:
            self.stop()
        if when_done is not None:
            when_done()
        if self._place is not None:
            read_result(self._memory, self._address, self._place)
        writing = 0.0 if self._program is Program.KERNEL else self.write()
        return Call(done - start, 0.0 if is_there else writing)

    # The same in steps, for who holds another clock (`vegtts_core.evaluator.committed`). All raise `CandidateFailure`.

    def begin(self) -> float:
        """Let the process go on and have ``forward`` called; the time just before."""
        return self._send(Command.CALL)

    def await_done(self, limit: float | None = None) -> float:
        """Wait for the call's answer, at most ``limit`` seconds (usually those of a call); when it came."""
        return self._expect(Reply.DONE, self._calling, limit)

    def write(self) -> float:
        """Have the result written down, then stop the process. How long writing took, in seconds."""
        write = self._send(Command.WRITE)
        written = self._expect(Reply.WRITTEN, "writing its result")
        self.stop()
        if self._printed_too_much():
            raise flood(self._limits)
        return written - write

    def live_from_now(self) -> None:
        """Count the limit on the whole process's wall time from now on."""
        self._deadline = time.monotonic() + self._limits.candidate_seconds

    def let_go(self) -> bool:
        """Have it ended and do not wait for that, as `close` will. False, and nothing is done, unless it stands still.

        A process that is stopped is killed without another step, so that it can meddle with nothing meanwhile. Of any
        Python that is not known.
        """
        if self._any_python or not self._stopped or self._prints < 0:
            return False
        with contextlib.suppress(OSError):
            self._status.send(b"end")
        return True

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
        for fd in (self._pidfd, self._memory):
            if fd >= 0:
                os.close(fd)

    def _send(self, command: Command) -> float:
        """Let the process go on and send a command; the time just before sending."""
        try:
            if self._control.recv(1, socket.MSG_DONTWAIT):
                raise out_of_turn()
        except BlockingIOError:
            pass
        except OSError:
            raise self._death(0.0) from None
        if self._stopped:
            self._require_stopped()
            if not self._on_device and self.cores:
                self._spread = spread(self._id, self.cores, self._spread)
        start = time.perf_counter()
        if self._stopped:
            self._signal(signal.SIGCONT)
            self._stopped = False
        try:
            self._control.send(command.value)
            return start
        except OSError:
            raise self._death(0.0) from None

    def _expect(self, reply: Reply, doing: str, limit: float | None = None) -> float:
        """Wait for ``reply``, at most ``limit`` seconds (those of a call); the time of its arrival."""
        limit = min(limit or self._limits.call_seconds, self.seconds_left)
        ready = self._poll.poll(max(limit, 0.0) * 1000)
        if not ready:
            self._end()
            raise CandidateFailure(ErrorKind.TIMEOUT, f"It was ended after {limit:.3g} s of {doing}.")
        if not any(fd == self._control.fileno() for fd, _ in ready):
            raise self._death(_END_SECONDS)
        try:
            message = self._control.recv(MESSAGE_LIMIT)
        except OSError:
            message = b""
        # In this order: what is done before is on this clock, what is done after on the process's own, or both.
        self._used_at_answer = processor_seconds(self._id)
        arrived = time.perf_counter()
        says_where = reply is Reply.DONE and self._place is not None
        if message[:1] == reply.value and len(message) == 1 + ADDRESS.size * says_where:
            if says_where:
                (self._address,) = ADDRESS.unpack(message[1:])
            return arrived
        if not message:
            raise self._death(_END_SECONDS)
        if message[:1] == Reply.FAILED.value:
            raise self._admitted(message[1:])
        raise out_of_turn()

    def stop(self) -> None:
        """Stop the process, and all that it started: it must be alone by now. Returns when all its threads stand still.

        Raises `CandidateFailure`.
        """
        self._signal(signal.SIGSTOP)
        self._stopped = True
        if self._any_python:
            self._require_alone()
        used = await_stopped(self._id, _END_SECONDS)
        if used is None:
            raise CandidateFailure(ErrorKind.LINGERING, "It could not be stopped when it had answered.")
        self._used_at_stop = used

    def _require_alone(self) -> None:
        """Have the warden stop all that the process started; a failure if that is anything."""
        try:
            self._status.settimeout(_END_SECONDS)
            self._status.send(STOP)
            answer = self._status.recv(ENDED.size)
        except OSError:
            answer = b""
        if answer == STOPPED_MANY:
            raise CandidateFailure(
                ErrorKind.LINGERING, "It left other processes running when it said that it was done."
            )
        if answer != STOPPED_ONE:
            self._report = answer  # it has ended: the next command will find out

    def _require_stopped(self) -> None:
        """A failure if the process went on after it was stopped, whoever woke it: inputs have been written since."""
        went_on = processor_seconds(self._id) > self._used_at_stop + _LAST_STEPS_SECONDS
        # Any Python on a GPU is under a clock that runs by now, and has seen nothing that is not inside it.
        if not went_on and not (self._on_device and self._any_python):
            went_on = not is_stopped(self._id)
        if went_on and not self._has_ended():
            raise CandidateFailure(ErrorKind.LINGERING, "It went on while the evaluator had stopped it.")

    def _has_ended(self) -> bool:
        """Whether it has died: how, the next command will find out."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _stop_at_once(self) -> float:
        """Stop the process; processor seconds that all its threads used after the answer, beyond the usual.

        Raises `CandidateFailure` if that was more than a machine's being busy can explain.
        """
        self.stop()
        late = self._used_at_stop - self._used_at_answer
        if late > _LINGERING_SECONDS:
            raise CandidateFailure(ErrorKind.LINGERING, "It was still computing after it had answered.")
        return late if late > _IDLE_SECONDS else 0.0

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
        if self._printed_too_much():
            return flood(self._limits)
        return admitted(message, self._program, self._limits, self._on_device)

    def _printed_too_much(self) -> bool:
        return os.fstat(self._prints).st_size >= self._limits.printed_bytes

    def _death(self, wait: float) -> CandidateFailure:
        """What the warden says of a process that ended by itself."""
        self._status.settimeout(wait or _END_SECONDS)
        report = self._report
        try:
            report = report or self._status.recv(ENDED.size)
        except OSError:
            report = b""
        if len(report) != ENDED.size:
            report = self._end()
        if self._printed_too_much():
            return flood(self._limits)
        if len(report) != ENDED.size:
            return CandidateFailure(ErrorKind.CRASH, "Its process ended, and so did the one that watched it.")
        _, code, number = ENDED.unpack(report)
        return ended(code, number, self._program, self._limits)
