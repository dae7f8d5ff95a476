"""The warm process: imports torch once and forks, so that a candidate costs milliseconds and not a Python start.

It runs no candidate and no reference. It has one thread and never enters a parallel region, because a process forked
after one would wait for worker threads that it does not have. It is started by
`vegtts_core.evaluator.warm_process`, ends with the process that started it, and every process forked from it is
watched by a warden.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket

import torch

from vegtts_core.evaluator import jail, sandbox, warden

#: What a request carries, in this order: file descriptors that the new process gets; the last one for kernels only.
DESCRIPTORS = ("assignment", "inputs", "weights", "output", "prints", "control", "status", "library")
#: And what one carries for a process that waits for its assignment.
WAITING_DESCRIPTORS = ("assignment", "prints", "control", "status")
FORK, FORK_WAITING = b"fork", b"wait"


def _get_ahead_of_cuda() -> None:
    """Do here, once, what torch does in Python whenever a process starts CUDA (it starts nothing of CUDA here)."""
    queued, register = getattr(torch.cuda, "_queued_calls", []), getattr(torch.cuda, "_register_triton_kernels", None)
    mine = [call for call in queued if call[0] is register]
    if torch.version.cuda is not None and register is not None and mine:
        register()
        for call in mine:
            queued.remove(call)


def main(parent: int, requests_fd: int) -> None:
    """Serve requests on the socket ``requests_fd`` until it closes."""
    jail.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for children: let the kernel reap them
    torch.set_num_threads(1)
    jail.adopt_orphans()  # wardens are grandchildren; not every machine's first process reaps strangers
    jail.go_first()
    jail.hide_memory()
    _get_ahead_of_cuda()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"the warm process has {threads} threads, so that it cannot be forked safely")
    gc.collect()
    gc.freeze()  # keeps collections in the forked processes from touching, and so copying, every page
    requests = socket.socket(fileno=requests_fd)
    requests.send(json.dumps(sandbox.layers()).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 16, len(DESCRIPTORS))
        if not message:
            return
        if os.fork() == 0:
            try:
                names = WAITING_DESCRIPTORS if message == FORK_WAITING else DESCRIPTORS
                warden.watch(dict(zip(names, fds, strict=False)))
            finally:
                os._exit(1)
        for fd in fds:
            os.close(fd)
