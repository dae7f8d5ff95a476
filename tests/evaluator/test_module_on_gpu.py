"""Scaffold module on a GPU, as far as it can be tried without one; the rest is in tests/exploits (marked gpu)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from forked import end_of

from vegtts_core.evaluator import ErrorKind, Limits, jail, on_gpu, profiles, sandbox
from vegtts_core.evaluator.baselines import compiled_candidate
from vegtts_core.evaluator.cuda.committed import ModuleMemory, copy_by_kernel
from vegtts_core.evaluator.cuda.evaluator import CudaEvaluator
from vegtts_core.evaluator.cuda.timing import Timing
from vegtts_core.evaluator.failures import admitted
from vegtts_core.evaluator.gpu_files import compiling_for, device_nodes, driver_folders
from vegtts_core.evaluator.messages import Program
from vegtts_core.evaluator.shared_memory import identical
from vegtts_core.evaluator.warm_process import _environment
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds import ForwardScaffold, ModuleScaffold
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import get_task


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    """What a machine with two GPUs shows: its device nodes, and the driver's folder of GPUs."""
    dev, proc = tmp_path / "dev", tmp_path / "gpus"
    dev.mkdir()
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidia1", "null"):
        (dev / name).touch()
    for bus, minor in (("0000:18:00.0", 1), ("0000:2a:00.0", 0)):
        (proc / bus).mkdir(parents=True)
        (proc / bus / "information").write_text(f"Model: \t GPU\nBus Location: \t {bus}\nDevice Minor: \t {minor}\n")
    return dev, proc


def test_a_process_gets_the_nodes_of_its_own_gpu(system: tuple[Path, Path]) -> None:
    dev, proc = system
    names = [os.path.basename(path) for path in device_nodes("0000:18:00.0", dev, proc)]
    assert names == ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia1"]
    for unknown in ("0000:99:00.0", ""):
        names = [os.path.basename(path) for path in device_nodes(unknown, dev, proc)]
        assert names == ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidia1"]


def test_the_driver_lies_where_it_was_loaded_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r--p 00000000 fe:00 12   {tmp_path}/libcuda.so.580.1\n7f02-7f03 rw-p 00 00:00 0\n")
    folders = driver_folders(maps)
    assert folders[-1] == str(tmp_path)
    monkeypatch.setenv("CUDA_HOME", "/somewhere/cuda")
    found = compiling_for((9, 0), 3, folders)
    assert found["PATH"].startswith("/somewhere/cuda/bin:") and found["PATH"].endswith(os.defpath)
    assert found["MAX_JOBS"] == "3" and found["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert "TRITON_LIBCUDA_PATH" not in found
    (tmp_path / "libcuda.so.1").touch()
    assert compiling_for((9, 0), 3, folders)["TRITON_LIBCUDA_PATH"] == str(tmp_path)


def test_the_first_gpu_is_the_same_one_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("SECRET_KEY", "x")
    found = _environment()
    assert found["CUDA_VISIBLE_DEVICES"] == "3" and "SECRET_KEY" not in found


def _left(device: Path) -> sandbox.Sandbox:
    box = sandbox.take_namespaces()
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
    sandbox.arrange_files(box, 1 << 20)
    sandbox.leave_files(box, [str(device)])
    return box


def _in_thread(step: Callable[[], object]) -> None:
    """Do it in a thread that starts now; an OSError of it is raised here."""
    failures: list[OSError] = []

    def run() -> None:
        try:
            step()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_files_are_given_up_before_a_driver_starts_threads(tmp_path: Path) -> None:
    device, other = tmp_path / "nvidia0", tmp_path / "nvidia1"
    for path in (device, other):
        path.write_text("x")
        path.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "popen")) or folder == tmp_path:  # side by side there is one more
            folder.chmod(0o755)
    assert end_of(lambda: _left(device), lambda: _in_thread(lambda: os.open(device, os.O_RDWR))) == 0
    assert end_of(lambda: _left(device), lambda: _in_thread(lambda: os.open(other, os.O_RDWR))) == 13


def _named(name: str) -> None:
    """As the driver does with its threads."""
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write(name)


def _left_for_a_gpu() -> sandbox.Sandbox:
    box = sandbox.take_namespaces()
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
    sandbox.arrange_files(box, 1 << 20)
    os.open(on_gpu._THREADS, os.O_PATH)
    sandbox.leave_files(box, [on_gpu._THREADS])
    return box


def test_the_driver_may_name_its_threads_and_write_nothing_else_of_the_process(tmp_path: Path) -> None:
    assert end_of(_left_for_a_gpu, lambda: _in_thread(lambda: _named("cuda00001400006"))) == 0
    assert end_of(lambda: _left(tmp_path / "none"), lambda: _in_thread(lambda: _named("cuda"))) == 13
    assert end_of(_left_for_a_gpu, lambda: _in_thread(lambda: os.open("/proc/self/coredump_filter", os.O_WRONLY))) == 13


def test_system_calls_are_given_up_by_threads_that_were_there_before(tmp_path: Path) -> None:
    resources = jail.Resources(1 << 30, 1 << 20, 60, 1024, counts_data=True)
    go = threading.Event()

    def unshare() -> None:
        go.wait()
        ctypes.CDLL(None).unshare(0)

    def limited() -> None:
        box = _left(tmp_path)
        thread = threading.Thread(target=unshare)
        thread.start()
        sandbox.limit(box, profiles.ANY_PYTHON, resources)
        go.set()
        thread.join()

    assert end_of(limited) == 256 - signal.SIGSYS


def test_memory_is_limited_where_addresses_cannot_be() -> None:
    resources = jail.Resources(256 << 20, 1 << 20, 60, 1024, counts_data=True)
    limit = lambda: jail.limit_resources(resources, False)  # noqa: E731
    # Asked of the kernel: malloc may have a gigabyte left of what earlier tests freed, which is counted already.
    fresh = lambda size: lambda: mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE)  # noqa: E731
    assert end_of(limit, fresh(128 << 20)) == 0
    assert end_of(limit, fresh(1 << 30)) == errno.ENOMEM


def test_what_is_timed_how() -> None:
    task = get_task("88")
    module = ModuleScaffold().parse(task, task.source.replace("Model", "ModelNew"))
    forward = ForwardScaffold().parse(task, task.forward_body)
    assert isinstance(module, Candidate) and isinstance(forward, Candidate)
    assert Timing.of(module) is Timing.COMMITTED and Timing.of(forward) is Timing.ANSWER
    assert Timing.of(compiled_candidate(task, "cuda")) is Timing.EVENTS
    refusal: Any = CudaEvaluator._refusal
    assert refusal(None, module) == refusal(None, forward) == ""
    cpp = Candidate(task.key, "kernel", "", "", "x", Language.CPP)
    assert "C++" in refusal(None, cpp)


def test_failures_on_a_device_are_told_in_its_words() -> None:
    limits = Limits()
    fault = admitted(b"exception\nAcceleratorError: CUDA error: an illegal memory access", Program.MODULE, limits, True)
    assert (fault.kind, fault.fault) == (ErrorKind.OUT_OF_BOUNDS, True)
    room = admitted(b"out_of_memory\nOutOfMemoryError: CUDA out of memory.", Program.MODULE, limits, True)
    assert room.kind is ErrorKind.OUT_OF_MEMORY and "more memory than there is" in room.reason
    assert "4096 MiB" in admitted(b"out_of_memory\nMemoryError", Program.MODULE, limits, False).reason


class _Arena:
    """Tensors in the host's memory in the place of a `DeviceArena`."""

    def __init__(self, layout: Any, device: int) -> None:
        self.tensors = [torch.zeros(shape, dtype=dtype) for shape, dtype in layout]


class _Event:
    def __init__(self, **options: Any) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: object) -> float:
        return 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_copies_and_their_times(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    for name, value in (("Event", _Event), ("synchronize", lambda *_: None)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr("vegtts_core.evaluator.cuda.committed.DeviceArena", _Arena)
    monkeypatch.setattr("vegtts_core.evaluator.cuda.committed._PIECE_BYTES", 24)
    flushed: list[int] = []
    layout = [((3, 5), dtype), ((), torch.float64)]
    session: Any = SimpleNamespace(
        inputs=_Arena(layout, 0),
        output=_Arena([((7, 2), dtype)], 0),
        reference_output=_Arena([((7, 2), dtype)], 0),
        staged=[torch.randn(5, 3).to(dtype).T, torch.tensor(2.5, dtype=torch.float64)],
        flush=lambda: flushed.append(1),
        own_kernels=SimpleNamespace(gate=contextlib.nullcontext),
    )
    memory = ModuleMemory(session, layout, 0)
    assert memory.copying_seconds(True) == memory.copying_seconds(False) == pytest.approx(2e-3)
    assert flushed
    memory.candidate.show()
    assert all(torch.equal(shown, staged) for shown, staged in zip(session.inputs.tensors, session.staged, strict=True))
    assert not memory.reference_inputs.tensors[1]  # the reference's are its own
    (output,) = session.output.tensors
    output.copy_(torch.randn(7, 2).to(dtype))
    memory.candidate.keep()
    assert memory.candidate.is_kept() and identical(memory.candidate.kept, output)
    output[6, 1] = ~output[6, 1] if dtype is torch.bool else output[6, 1] + 1
    assert not memory.candidate.is_kept()
    memory.reference.keep()
    assert memory.reference.is_kept()
    # One side's copy may take no longer than the other's: the same pieces, each as large as where it goes.
    ours, theirs = ([len(target) for target, _ in side._pieces] for side in (memory.candidate, memory.reference))
    assert ours == theirs and (len(ours) > 1 or dtype is torch.bool)


def test_bits_are_copied_that_are_no_numbers() -> None:
    source, target = torch.full((9,), -1, dtype=torch.int32).view(torch.float32), torch.zeros(9)
    copy_by_kernel(target, source)
    assert identical(source, target)
