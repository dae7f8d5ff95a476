"""One warden per candidate: a trusted process that forks the candidate's, waits for it, and ends what it leaves.

Where process namespaces exist the warden is the first process of a new one: the candidate sees and can signal nobody
else, cannot signal the warden, and everything in the namespace ends with it. Where they do not, the warden adopts every
orphan and kills those. When the evaluator closes its end of the status socket, or dies, the warden ends everything.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import time
from pathlib import Path

from vegtts_core.evaluator import child, jail, sandbox
from vegtts_core.evaluator.messages import Assignment, Waiting

#: How the candidate's process ended: exit code, and signal number (0 if none).
ENDED = struct.Struct("!Bii")
#: What the evaluator may ask meanwhile: stop every process. The answer says whether the candidate's was the only one.
STOP = b"stop"
STOPPED_ONE, STOPPED_MANY = b"1", b"2"
#: Place of the number of threads in /proc/PID/stat, from the field after the state (proc(5)).
_THREADS = 16


def watch(fds: dict[str, int]) -> None:
    """Run one candidate's process to its end. Called in a freshly forked process, never returns normally."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    box = sandbox.take_namespaces()
    if os.fork() > 0:
        os._exit(0)  # only a child of this process is inside the new process namespace
    jail.adopt_orphans()
    assignment = pickle.loads(os.pread(fds["assignment"], os.fstat(fds["assignment"]).st_size, 0))
    sandbox.arrange_files(box, assignment.file_bytes)
    candidate = os.fork()
    if candidate == 0:
        try:
            _become_candidate(assignment, fds, box)
        finally:
            os._exit(1)
    _keep_only([fds["status"]])
    status = socket.socket(fileno=fds["status"])
    pidfd = os.pidfd_open(candidate)
    socket.send_fds(status, [b"started"], [pidfd])
    poll = select.poll()
    poll.register(status, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while any(fd == status.fileno() for fd, _ in poll.poll()):
        order = _next_order(status)
        if order == STOP:
            status.send(_stop_all(candidate))
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            break
    _, code = os.waitpid(candidate, 0)
    _end_descendants()
    sandbox.remove_scratch(box)
    exit_code, signal_number = (0, os.WTERMSIG(code)) if os.WIFSIGNALED(code) else (os.WEXITSTATUS(code), 0)
    with contextlib.suppress(OSError):  # the evaluator may be gone
        status.send(ENDED.pack(ord("E"), exit_code, signal_number))
    os._exit(0)


def _next_order(status: socket.socket) -> bytes:
    try:
        return status.recv(len(STOP))
    except OSError:
        return b""


def _stop_all(candidate: int) -> bytes:
    """Stop every process of the namespace in one step, and say whether there are others than the candidate's."""
    if os.getpid() != 1:
        return STOPPED_ONE
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGSTOP)
    others = {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid()), str(candidate)}
    return STOPPED_MANY if any(_is_alive(pid) for pid in others) else STOPPED_ONE


def _is_alive(pid: str) -> bool:
    """Whether it is more than an entry that nobody has read yet (a zombie): its first thread may end before others."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return state not in ("Z", "X") or int(fields[_THREADS]) > 1


def _become_candidate(assignment: Assignment | Waiting, fds: dict[str, int], box: sandbox.Sandbox) -> None:
    os.setsid()
    os.dup2(fds["prints"], 1)
    os.dup2(fds["prints"], 2)
    _keep_only([fd for name, fd in fds.items() if name not in ("status", "assignment", "prints")])
    if isinstance(assignment, Waiting):
        child.wait(fds, box)
    else:
        child.run(assignment, fds, box)


def _keep_only(kept: list[int]) -> None:
    """Close every file descriptor but the standard ones and ``kept``."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _end_descendants() -> None:
    """Kill and reap every process that the candidate left behind."""
    children = Path("/proc/thread-self/children")
    first_of_namespace = os.getpid() == 1
    while True:
        if first_of_namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in children.read_text().split() if children.exists() else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
        except ChildProcessError:
            return
