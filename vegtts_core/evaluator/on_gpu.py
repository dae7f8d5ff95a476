"""A process that runs any Python on a GPU: what it keeps when it gives up its files, and what it may use.

CUDA is started in between, by trusted code. The process is nobody and under Landlock by then, so that the threads that
the driver starts are as well.
"""

from __future__ import annotations

import os

from vegtts_core.evaluator import sandbox
from vegtts_core.evaluator.gpu_files import compiling_for, device_nodes, driver_folders
from vegtts_core.evaluator.jail import Resources
from vegtts_core.evaluator.messages import Assignment, Gpu
from vegtts_core.kernels.cuda import driver

#: A CUDA context opens some forty files, and a compiler as many again.
_OPEN_FILES = 1024
#: The driver names its threads by writing here, and takes a refusal for a failure of the system (error 304).
_THREADS = "/proc/self/task"


def leave_files(box: sandbox.Sandbox, gpu: Gpu, jobs: int) -> None:
    """Give up the user and all files but this GPU's and the compilers'. ``jobs``: compilers side by side."""
    driver.library()  # loads it, and starts no thread: from now on it is known where it lies
    folders = driver_folders()
    # Landlock's rule is tied to what this path is now. Held open for as long as the process lives, it stays that.
    os.open(_THREADS, os.O_PATH | os.O_CLOEXEC)
    sandbox.leave_files(box, [*device_nodes(gpu.bus), _THREADS], folders)
    os.environ.update(compiling_for(gpu.capability, jobs, folders))


def resources(assignment: Assignment) -> Resources:
    """What it may use once CUDA is started."""
    return Resources(
        assignment.memory_bytes, assignment.file_bytes, assignment.cpu_seconds, _OPEN_FILES, counts_data=True
    )
