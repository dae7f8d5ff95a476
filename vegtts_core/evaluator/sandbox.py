"""The sandbox: layers between a candidate's process and everything else, each taken where the machine grants it.

    user        it runs as nobody, or as its own user in a user namespace where that user owns nothing else
    process     a process namespace: it sees and signals only itself, what it started, and its warden
    network     a network namespace without any interface
    ipc         its own shared memory and message queues
    mount       its own view of the file system: a fresh /proc, and a scratch folder that vanishes with it
    landlock    it reads what Python and the compilers need, and writes to its scratch folder alone
    seccomp     it makes no system call that reaches for other processes or for the kernel itself
    rlimits     address space, processor time, file sizes, processes, open files

The steps run in the order of this file: `take_namespaces` in the process that forks the warden, `arrange_files` in the
warden (the first process of the new namespace), `confine` in the candidate's own process before its code is looked at.
Everything acts on the calling process and cannot be undone.

Landlock and the user hold for the calling thread and those that it starts later. A process that gets a GPU therefore
takes `leave_files` before CUDA starts threads of its own (they run host callbacks, and share memory with the
candidate's), and `limit`, which holds for all threads, after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vegtts_core.evaluator import jail, landlock
from vegtts_core.evaluator.profiles import ANY_PYTHON
from vegtts_core.evaluator.seccomp import Filter

# linux/sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
# linux/mount.h
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
_DETACH = 2

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/sys/devices/system", "/proc")
_CONFIGURATION = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "passwd",
    "group",
    "nsswitch.conf",
    "alternatives",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
#: What libraries and compilers call home, or keep their caches in.
_HOMES = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
_SCRATCH_PREFIX = "vegtts-scratch-"

_libc = ctypes.CDLL(None, use_errno=True)


class Layer(StrEnum):
    """See the module."""

    USER = "user"
    PROCESS = "process"
    NETWORK = "network"
    IPC = "ipc"
    MOUNT = "mount"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    RLIMITS = "rlimits"


_NAMESPACES = {
    Layer.PROCESS: _CLONE_NEWPID,
    Layer.NETWORK: _CLONE_NEWNET,
    Layer.IPC: _CLONE_NEWIPC,
    Layer.MOUNT: _CLONE_NEWNS,
}


@dataclass
class Sandbox:
    """How far a process has come: ``missing`` maps the layers that could not be had so far to the reason."""

    missing: dict[Layer, str]
    own_users: bool = False
    scratch: str = ""


def _unshare(flags: int) -> str:
    """Why this did not work; empty if it did."""
    return "" if _libc.unshare(flags) == 0 else os.strerror(ctypes.get_errno())


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data and data.encode()
    )
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mounting {target}: {os.strerror(error)}")


def take_namespaces() -> Sandbox:
    """Leave the network, other processes and the machine's mounts behind; the next child is the first of its kind."""
    sandbox = Sandbox({})
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        problem = _unshare(_CLONE_NEWUSER)
        sandbox.own_users = not problem
        if problem:
            sandbox.missing[Layer.USER] = problem
        else:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{user} {user} 1"),
                ("gid_map", f"{group} {group} 1"),
            ):
                with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
    for layer, flag in _NAMESPACES.items():
        problem = _unshare(flag)
        if problem:
            sandbox.missing[layer] = problem
    return sandbox


def arrange_files(sandbox: Sandbox, scratch_bytes: int) -> None:
    """Make the scratch folder; where there is a mount namespace, show only this process namespace's /proc as well.

    With a mount namespace, what lies in the scratch folder is memory, of at most ``scratch_bytes`` in all, and nobody
    else sees it. `remove_scratch` removes the folder.
    """
    sandbox.scratch = tempfile.mkdtemp(prefix=_SCRATCH_PREFIX)
    os.chmod(sandbox.scratch, 0o1777)
    if Layer.MOUNT not in sandbox.missing:
        try:
            _mount("none", "/", None, _RECURSIVE | _PRIVATE)
            if Layer.PROCESS not in sandbox.missing:
                _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
            _open_the_way(_readable())
            _mount("tmpfs", sandbox.scratch, "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={scratch_bytes}")
        except OSError as error:
            sandbox.missing[Layer.MOUNT] = str(error)


def remove_scratch(sandbox: Sandbox) -> None:
    """Remove the scratch folder and all that is in it."""
    _libc.umount2(sandbox.scratch.encode(), _DETACH)  # fails where nothing is mounted on it
    shutil.rmtree(sandbox.scratch, ignore_errors=True)


def _readable() -> list[str]:
    """Files and folders that Python, torch and a compiler read."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    python = {sys.prefix, sys.base_prefix, package, *sysconfig.get_paths().values()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.__file__:
        python.add(os.path.dirname(torch.__file__))
    if toolkit := os.environ.get("CUDA_HOME"):  # set by `warm_process`, which finds it
        python.add(toolkit)
    found = [*_SYSTEM, *(f"/etc/{name}" for name in _CONFIGURATION), *(f"/dev/{name}" for name in _DEVICES), *python]
    return sorted({os.path.realpath(path) for path in found if os.path.exists(path)} | {*_SYSTEM})


def _open_the_way(paths: list[str]) -> None:
    """Root becomes nobody: where nobody cannot enter a folder on the way to ``paths``, put another in its place.

    The other one is empty but for those paths.
    """
    if os.geteuid() != 0:
        return
    closed: dict[str, list[tuple[str, int]]] = {}
    for path in paths:
        parts = path.split("/")
        ways = ["/".join(parts[:end]) for end in range(2, len(parts))]
        barred = next((way for way in ways if os.path.isdir(way) and not os.stat(way).st_mode & stat.S_IXOTH), None)
        if barred is not None:
            closed.setdefault(barred, []).append((path, os.open(path, os.O_PATH | os.O_CLOEXEC)))
    for barred, behind in closed.items():
        _mount("tmpfs", barred, "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
        for path, fd in sorted(behind):
            if not os.path.exists(path):  # it may lie below one that is in place already
                os.makedirs(path)
                _mount(f"/proc/self/fd/{fd}", path, None, _BIND | _RECURSIVE)
            os.close(fd)


def leave_files(sandbox: Sandbox, devices: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
    """Give up the user, privileges and files; the process has its scratch folder as its home. With one thread only.

    ``devices``: what it may write to beyond its scratch folder, device nodes above all; ``folders``: what it may read
    beyond what everyone may.
    """
    if os.geteuid() == 0:
        if not jail.become_nobody():
            sandbox.missing[Layer.USER] = "root may not change its user here"
        sandbox.own_users = not _unshare(_CLONE_NEWUSER)
    for name in _HOMES:
        os.environ[name] = sandbox.scratch
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # a pool of compilers would outlive the call that needed them
    tempfile.tempdir = None
    os.chdir(sandbox.scratch)
    jail.drop_privileges()
    writable = [sandbox.scratch, *(f"/dev/{name}" for name in _DEVICES), *devices]
    try:
        landlock.restrict([*_readable(), *folders, "/proc/self"], writable)
    except OSError as error:
        sandbox.missing[Layer.LANDLOCK] = str(error)


def limit(sandbox: Sandbox, calls: Filter, resources: jail.Resources) -> None:
    """Give up resources and system calls, in all threads; afterwards ``sandbox.missing`` is complete.

    ``calls`` is the filter of system calls.
    """
    jail.limit_resources(resources, sandbox.own_users)
    try:
        calls.install()
    except OSError as error:
        sandbox.missing[Layer.SECCOMP] = str(error)


def confine(sandbox: Sandbox, calls: Filter, resources: jail.Resources) -> None:
    """`leave_files` and `limit`, for a process without a GPU, or one that has all that it needs of it open."""
    leave_files(sandbox)
    limit(sandbox, calls, resources)


def layers() -> dict[Layer, str]:
    """Why each layer is missing on this machine; an empty string where it is active. Tried once, in a process.

    Only for a process with a single thread (it forks). Takes some milliseconds.
    """
    ours, theirs = os.pipe()
    if (first := os.fork()) == 0:
        try:
            _try_layers(theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as report:
        said = dict(line.rstrip("\n").split("\t", 1) for line in report)
    with contextlib.suppress(ChildProcessError):  # where children are reaped by themselves
        os.waitpid(first, 0)
    return {layer: said.get(layer.value, "the trial ended early") for layer in Layer}


def _try_layers(report: int) -> None:
    """Go the way of a candidate's process and write down, line by line, what was missing on it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sandbox = take_namespaces()
    if (warden := os.fork()) > 0:
        os.waitpid(warden, 0)
        return
    arrange_files(sandbox, 1 << 20)
    if (candidate := os.fork()) > 0:
        os.waitpid(candidate, 0)
        remove_scratch(sandbox)
        return
    confine(sandbox, ANY_PYTHON, jail.Resources(1 << 30, 1 << 20, 60))
    for layer in Layer:
        reason = " ".join(sandbox.missing.get(layer, "").split())
        os.write(report, f"{layer.value}\t{reason}\n".encode())
