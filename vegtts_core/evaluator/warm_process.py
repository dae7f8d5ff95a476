"""The warm process: started once, it has imported torch, and forks every process that runs a candidate or a reference.

It knows how processes begin; what they are told and how they end is `vegtts_core.evaluator.processes`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys

from vegtts_core.errors import UserError
from vegtts_core.evaluator.messages import MESSAGE_LIMIT, Assignment, Program, Waiting, letter_of, one_line
from vegtts_core.evaluator.processes import START_SECONDS, Process, WarmProcessLost
from vegtts_core.evaluator.reading import Place
from vegtts_core.evaluator.runner import SharedMemory
from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.settings import Limits
from vegtts_core.evaluator.zygote import FORK, FORK_WAITING
from vegtts_core.kernels.cuda.install import toolkit

#: Idle threads sleep at once instead of spinning on the core that another process is being timed on. And freed memory
#: stays with the process, as it does on a GPU under PyTorch: fresh pages for every temporary tensor cost a reference up
#: to three times its own work (task 25), which a kernel, writing to memory that is there, would be credited with.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
#: What of the environment says which GPU is meant: the first one has to be the same one for everybody.
_KEPT = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vegtts_core.evaluator.zygote import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


def _environment() -> dict[str, str]:
    """That of the warm process; CUDA_HOME is the CUDA toolkit, for modules that compile, where there is one."""
    found = _ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ}
    with contextlib.suppress(UserError):
        found["CUDA_HOME"] = str(toolkit(os.environ))
    return found


class WarmProcess:
    """The process that forks all others. It is started when first needed and again if it is lost."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise UserError("The evaluator needs Linux: run it in a Linux machine or container.")
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        #: Why each layer of the sandbox is missing on this machine, empty where it is active; known once started.
        self.layers: dict[Layer, str] = {}

    @property
    def active_layers(self) -> frozenset[Layer]:
        """The layers that every process must have."""
        return frozenset(layer for layer, reason in self.layers.items() if not reason)

    def start(self) -> None:
        """Import torch in a new process. Takes a second or two; raises UserError if the process does not come up."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = os.memfd_create("warm-process-log", os.MFD_CLOEXEC)
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, path, str(os.getpid()), str(theirs.fileno())],
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._requests = ours
        ours.settimeout(START_SECONDS)
        try:
            ready = ours.recv(MESSAGE_LIMIT)
        except OSError:
            ready = b""
        said = os.pread(log, 4096, max(0, os.fstat(log).st_size - 4096)).decode(errors="replace").strip()
        os.close(log)
        if not ready:
            self.close()
            last = one_line(said.splitlines()[-1]) if said else "it gave no reason"
            raise UserError(f"The evaluator's warm process did not start ({last}): check that torch imports.")
        self.layers = {Layer(name): reason for name, reason in json.loads(ready).items()}

    def spawn(
        self,
        assignment: Assignment,
        inputs: SharedMemory,
        weights: SharedMemory,
        output: SharedMemory,
        limits: Limits,
        library: int | None = None,
    ) -> Process:
        """A new process for ``assignment``; its module is not built yet. ``library``: a kernel's file descriptor."""
        arenas = [arena.fd for arena in (inputs, weights, output)]
        place = Place.of(assignment, output) if assignment.is_read else None
        return self._spawn_twice(assignment, arenas, limits, library, place)

    def spawn_waiting(self, limits: Limits) -> Process:
        """A new process that starts CUDA and waits for an assignment of scaffold ``forward``: see `Process.assign`."""
        return self._spawn_twice(Waiting(limits.printed_bytes), [], limits, None)

    def _spawn_twice(
        self,
        assignment: Assignment | Waiting,
        arenas: list[int],
        limits: Limits,
        library: int | None,
        place: Place | None = None,
    ) -> Process:
        try:
            return self._spawn(assignment, arenas, limits, library, place)
        except WarmProcessLost:
            self.start()
        try:
            return self._spawn(assignment, arenas, limits, library, place)
        except WarmProcessLost:
            raise UserError(
                "The evaluator's warm process ended twice in a row: check the memory that is left on this machine."
            ) from None

    def _spawn(
        self,
        assignment: Assignment | Waiting,
        arenas: list[int],
        limits: Limits,
        library: int | None,
        place: Place | None,
    ) -> Process:
        if self._requests is None:
            raise WarmProcessLost
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status, their_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        prints = os.memfd_create("prints", os.MFD_CLOEXEC)
        letter = letter_of(assignment)
        waits = isinstance(assignment, Waiting)
        any_python, program = (False, Program.MODULE) if waits else (assignment.any_python, assignment.program)
        on_device = waits or assignment.device_bytes is not None
        process = Process(control, status, prints, limits, any_python, program, on_device, place)
        try:
            with their_control, their_status:
                fds = [letter, *arenas, prints, their_control.fileno(), their_status.fileno()]
                fds += [] if library is None else [library]
                socket.send_fds(self._requests, [FORK_WAITING if waits else FORK], fds)
            process.await_start()
        except (OSError, WarmProcessLost):
            process.close()
            raise WarmProcessLost from None
        except BaseException:
            process.close()
            raise
        finally:
            os.close(letter)
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
