"""Kernels that are forked from a process which has imported what chapters import, when a book executes many of them.

Starting Python and importing PyTorch, pandas and the rest takes a chapter longer than most of its cells. Each of the
build's workers keeps one such process (multiprocessing's fork server), which runs no chapter itself. Jupyter finds the
class here by its entry point (pyproject.toml) and takes it where `use` was called.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

#: As pyproject.toml calls the entry point.
NAME = "vegtts-forked"
#: Imported before the first fork: nothing in it starts a thread of its own.
PRELOADED = "vegtts_core.book.preloaded"
_CHOICE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
_CONTEXT = multiprocessing.get_context("forkserver")


def use() -> None:
    """Have this process start its kernels so, from its first one on."""
    os.environ[_CHOICE] = NAME
    _CONTEXT.set_forkserver_preload([PRELOADED])


def _serve(command: Sequence[str], environment: Mapping[str, str], folder: str | None) -> None:
    """Be a kernel: ``command`` as Jupyter would start it, with its environment and working directory."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    from ipykernel.kernelapp import launch_new_instance

    sys.argv = list(command[command.index("-m") + 1 :])
    # The kernel ends with the fork server, which ends with the worker.
    launch_new_instance(argv=[*sys.argv[1:], f"--IPKernelApp.parent_handle={os.getppid()}"])


class _Kernel:
    """A forked process with the methods of `subprocess.Popen` that Jupyter calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class ForkedProvisioner(LocalProvisioner):
    """Starts a kernel by forking; otherwise as Jupyter's own."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel that ``cmd`` would start."""
        folder = kwargs.get("cwd")
        given = (cmd, dict(kwargs.get("env") or os.environ), str(folder) if folder is not None else None)
        process = _CONTEXT.Process(target=_serve, args=given)
        process.start()
        self.process: Any = _Kernel(process)
        # Signals go to the kernel alone: what a chapter starts ends with it.
        self.pid, self.pgid = self.process.pid, None
        self.cwd = folder
        return self.connection_info
