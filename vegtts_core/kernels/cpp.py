"""C++ in, a loaded shared library out: finds the compiler, compiles with captured errors, keeps the result in a cache.

It knows nothing of tasks, templates or timing. The source that it is given is trusted: it is compiled and loaded into
this process. What a policy wrote goes through the evaluator's sandbox instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vegtts_core.errors import UserError
from vegtts_core.kernels.types import CODE_NAME, CompileError, Diagnostic

#: What every source is compiled with. ``-march=native`` binds a library to this CPU, which the cache key includes.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-fopenmp")

_DIAGNOSTIC = re.compile(rf"^(?:<stdin>|{CODE_NAME}):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", re.MULTILINE)

#: What a policy's kernels are compiled with besides: no headers, no exceptions, multiply-adds contracted, and nothing
#: of a compiler's start-up code, so that the library holds the kernel alone.
KERNEL_FLAGS = (
    *FLAGS,
    *("-nostdinc", "-nostdinc++", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fno-trapping-math"),
    *("-ffp-contract=fast", "-fno-ident", "-nostartfiles", "-nostdlib", "-w"),
    *("-Wl,--no-undefined", "-Wl,--as-needed", "-Wl,-z,now", "-Wl,-z,noexecstack"),
)
KERNEL_LIBRARIES = ("-lgomp", "-lm", "-lc", "-lgcc")


#: As small as a kernel can be that needs OpenMP's library.
_OPENMP_KERNEL = """
extern "C" void kernel(const float* x, float* out) {
#pragma omp parallel for
    for (int i = 0; i < 64; i++) out[i] = x[i];
}
"""


def kernel_command() -> tuple[str, ...]:
    """The command that compiles a kernel from standard input; ``-o FILE`` is to be added.

    Raises UserError if there is no compiler, or one that cannot link kernels against g++'s OpenMP library: what it
    fails at would be reported as each candidate's own mistake.
    """
    compiler = find_compiler()
    vector = ("-DVECTOR_MATH",) if _has_vector_math() else ()
    command = (*compiler.command, *KERNEL_FLAGS, *vector, "-x", "c++", "-", *("-x", "none"), *KERNEL_LIBRARIES)
    if not compiler.is_gcc:
        _try_openmp(command)
    return command


@cache
def _try_openmp(command: tuple[str, ...]) -> None:
    """Raise UserError unless the command compiles a kernel that uses OpenMP."""
    environment = {**os.environ, "LC_ALL": "C"}
    with tempfile.TemporaryDirectory(prefix="vegtts-openmp-") as folder:
        tried = subprocess.run(
            [*command, "-o", str(Path(folder) / "library.so")],
            input=_OPENMP_KERNEL,
            capture_output=True,
            text=True,
            env=environment,
        )
    if tried.returncode != 0:
        said = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[0]
        raise UserError(
            f"The C++ compiler {command[0]!r} does not compile kernels with OpenMP ({said[:200]}): install the Debian "
            "package g++, whose OpenMP library they are linked against, or set CXX to a g++."
        )


@cache
def _has_vector_math() -> bool:
    """Whether the C library has the vector functions that the preamble of kernels declares: glibc 2.35 on x86-64."""
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return platform.machine() == "x86_64" and name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


def diagnostics_in(output: str) -> tuple[Diagnostic, ...]:
    """The errors that g++ or clang++ reported; lines are those of the source or of its ``#line``."""
    return tuple(Diagnostic(int(line), message) for line, message in _DIAGNOSTIC.findall(output))


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the command that starts it, the first line of its ``--version``, and whether it is g++."""

    command: tuple[str, ...]
    version: str
    is_gcc: bool


def find_compiler() -> Compiler:
    """The compiler named by the environment variable CXX, else g++, else clang++.

    Raises UserError if there is none, or if CXX names one that does not start.
    """
    named = os.environ.get("CXX", "").split()
    if named:
        if shutil.which(named[0]) is None:
            raise UserError(
                f"CXX names {named[0]!r}, which is not an executable: unset it or point it to a C++ compiler."
            )
        return _identified(tuple(named))
    for name in ("g++", "clang++"):
        found = shutil.which(name)
        if found:
            return _identified((found,))
    raise UserError("No C++ compiler was found: install the Debian package g++ or set CXX to a compiler.")


@cache
def _identified(command: tuple[str, ...]) -> Compiler:
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"The C++ compiler {' '.join(command)!r} does not start ({error}): reinstall it.") from error
    version = answer.stdout.splitlines()[0] if answer.stdout else "unknown"
    return Compiler(command, version, is_gcc="Free Software Foundation" in answer.stdout)


@cache
def cpu_model() -> str:
    """The processor's name and vector extensions as the system gives them; ``unknown`` where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


@cache
def _cpu_features() -> str:
    """All that ``-march=native`` depends on; CPUs that share a model name can differ in it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else "unknown"


def cache_folder() -> Path:
    """Where compiled libraries lie: ``$VEGTTS_CACHE``, else ``$XDG_CACHE_HOME/vegtts_core``, else ``~/.cache/...``."""
    own = os.environ.get("VEGTTS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vegtts_core"


def compile_library(source: str, flags: Sequence[str] = ()) -> Path:
    """Compile a C++ source string to a shared library and return its path.

    The name is a hash of source, flags, compiler and CPU, so equal requests compile once, also across processes (the
    file appears in one step). ``flags`` follow ``FLAGS``. Raises CompileError with line numbers if the source is wrong,
    UserError if there is no compiler or the cache cannot be written.
    """
    compiler = find_compiler()
    parts = [source, *FLAGS, *flags, *compiler.command, compiler.version, cpu_model(), _cpu_features()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    folder = cache_folder() / "cpp"
    target = folder / f"{key}.so"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=folder, prefix="building-")
    except OSError as error:
        raise UserError(
            f"The cache folder {folder} cannot be written ({error}): set VEGTTS_CACHE to another."
        ) from error
    with work as name:
        built = Path(name) / "library.so"
        command = [*compiler.command, *FLAGS, *flags, "-x", "c++", "-", "-o", str(built)]
        environment = {**os.environ, "LC_ALL": "C"}
        result = subprocess.run(command, input=source, capture_output=True, text=True, env=environment, cwd=name)
        if result.returncode != 0:
            raise CompileError(result.stderr, diagnostics_in(result.stderr))
        os.replace(built, target)
    return target


def load(source: str, flags: Sequence[str] = ()) -> ctypes.CDLL:
    """Compile (or find in the cache) and load. Errors as ``compile_library``'s."""
    return ctypes.CDLL(str(compile_library(source, flags)))
