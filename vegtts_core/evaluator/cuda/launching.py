"""The evaluator's side of the launchers: start them, keep a spare, give them kernels, check their clock.

A launcher reads device events, which lie where a kernel might reach, and its own clock from the opening of the launch
gate until the device is idle. What the events do not account for, beyond what a kernel takes that does nothing, is
charged to the kernel as time that it spent unseen. Nothing else of the way to the launcher and back is: how long that
takes is the host's doing and differs from one evaluation to the next by more than a short kernel runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.evaluator.cuda.gate import unseen
from vegtts_core.evaluator.processes import CandidateFailure
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.kernels.cuda.launcher import MESSAGE_LIMIT

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vegtts_core.kernels.cuda.launcher import main; main(*map(int, sys.argv[2:5]))"
)
_START_SECONDS = 60.0
#: Launchers in reserve. New ones are started together, when one is left: they start about as fast as a single one.
_SPARES = 6
#: Longest wait for a request that runs no kernel.
_REQUEST_SECONDS = 20.0
_OUTSIDE = ("illegal memory access", "misaligned address", "invalid address space", "invalid program counter")


class LauncherLost(Exception):
    """The launcher's process or context is gone, by no kernel's doing."""


class Launcher:
    """One launcher process."""

    def __init__(self, device: int) -> None:
        """Starts it and does not wait; see `await_ready`."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, path, str(os.getpid()), str(theirs.fileno()), str(device)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._ready = False
        self._reaper: threading.Thread | None = None
        self.mapped: tuple[int, ...] = ()
        #: Seconds of a gated launch that the events do not see, usually.
        self.overhead = 0.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._reaper is None and self._process.poll() is None

    def await_ready(self) -> None:
        """Wait until it serves. Raises UserError if it does not come up."""
        if self._ready:
            return
        self._control.settimeout(_START_SECONDS)
        with contextlib.suppress(OSError):
            self._ready = bool(self._control.recv(MESSAGE_LIMIT))
        if not self._ready:
            self._process.kill()
            _, said = self._process.communicate()
            last = (said.decode(errors="replace").strip().splitlines() or ["it gave no reason"])[-1]
            raise UserError(f"The launcher of CUDA kernels did not start ({last}): run `make gpu` to install PyCUDA.")

    def request(self, do: str, fds: Sequence[int] = (), limit: float = _REQUEST_SECONDS, **more: Any) -> dict[str, Any]:
        """One request. Raises `CandidateFailure` for what a kernel does, LauncherLost if the process is gone."""
        try:
            socket.send_fds(self._control, [json.dumps({"do": do, **more}).encode()], list(fds))
            self._control.settimeout(limit)
            message = self._control.recv(MESSAGE_LIMIT)
        except TimeoutError:
            self.kill()
            raise CandidateFailure(
                ErrorKind.TIMEOUT, f"It was ended after {limit:.3g} s of running its kernel."
            ) from None
        except OSError as error:
            self.kill()
            raise LauncherLost(str(error)) from None
        if not message:
            self.kill()
            raise LauncherLost("it hung up")
        answer = json.loads(message)
        if "error" in answer:
            if answer.get("lost"):
                self.kill()
            raise _failure(answer["error"], bool(answer.get("lost")))
        return answer

    def launch(self, arguments: list[list[float]], cold: bool, limit: float, gated: bool = True) -> tuple[float, float]:
        """Launch once: (seconds between events, seconds that they do not account for; 0 unless cold and gated)."""
        start = time.perf_counter()
        answer = self.request("launch", limit=limit, arguments=arguments, cold=cold, gated=gated)
        wall = time.perf_counter() - start
        seconds = float(answer["seconds"])
        if not 0 < seconds <= wall:
            raise CandidateFailure(ErrorKind.CRASH, "The device's clock was tampered with: an event is out of order.")
        return seconds, unseen(float(answer.get("unseen", 0.0)), self.overhead, seconds)

    def calibrate(self, arguments: list[list[float]], calls: int = 9) -> None:
        """Take the usual overhead from the kernel that is loaded now: one of the evaluator's own that does nothing."""
        found = (self.request("launch", arguments=arguments, cold=True)["unseen"] for _ in range(calls))
        self.overhead = statistics.median(map(float, found))

    def kill(self) -> None:
        """End it. Does nothing the second time; `await_end` waits until it is gone, which takes its context a while."""
        if self._reaper is None:
            self._process.kill()
            with contextlib.suppress(OSError):
                self._control.close()
            self._reaper = threading.Thread(target=self._reap, daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        if self._process.stderr is not None and not self._process.stderr.closed:
            self._process.communicate()

    def await_end(self) -> None:
        """Wait until it is gone. Does nothing while it is alive."""
        if self._reaper is not None:
            self._reaper.join()


def _failure(text: str, lost: bool) -> CandidateFailure:
    said = text.split(" - ")[0].strip().rstrip(".")
    if any(words in text for words in _OUTSIDE):
        return CandidateFailure(
            ErrorKind.OUT_OF_BOUNDS,
            "It touched memory that is not its own, or wrote where it may only read.",
            fault=True,
        )
    if "out of memory" in text:
        return CandidateFailure(ErrorKind.OUT_OF_MEMORY, f"Its kernel needs more memory than there is: {said}.")
    return CandidateFailure(ErrorKind.CRASH, f"Its kernel {'failed' if lost else 'cannot be launched'}: {said}.")


class Launchers:
    """One launcher in use and spares, so that a lost context costs no start."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._current: Launcher | None = None
        self._spares: deque[Launcher] = deque()
        self._ended: list[Launcher] = []

    def start(self) -> None:
        """Start them, without waiting."""
        while len(self._spares) < _SPARES:
            self._spares.append(Launcher(self._device))

    def current(self) -> Launcher:
        """A launcher that serves. Others may still be starting: see `settle`."""
        if self._current is None or not self._current.alive:
            if self._current is not None:
                self._current.kill()
                self._ended.append(self._current)
            self._current = self._spares.popleft() if self._spares else Launcher(self._device)
            if len(self._spares) <= 1:
                self.start()
        self._current.await_ready()
        return self._current

    def settle(self) -> None:
        """Wait until none is starting or ending any more: timing is not disturbed."""
        for launcher in self._spares:
            launcher.await_ready()
        for launcher in self._ended:
            launcher.await_end()
        self._ended.clear()

    def unmap(self) -> None:
        """Have the launcher in use let go of all memory."""
        if self._current is not None and self._current.mapped and self._current.alive:
            with contextlib.suppress(CandidateFailure, LauncherLost):
                self._current.request("unmap")
            self._current.mapped = ()

    def close(self) -> None:
        """End all."""
        launchers = [*self._spares, *self._ended, *([self._current] if self._current else [])]
        for launcher in launchers:
            launcher.kill()
        for launcher in launchers:
            launcher.await_end()
        self._current = None
        self._spares.clear()
        self._ended.clear()
