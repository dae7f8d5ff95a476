"""What a GPU machine needs beside ``make setup``: PyCUDA, built here from source. ``make gpu`` runs this.

PyCUDA links against the driver and compiles against the toolkit, so both must be on the machine; cuRAND, which nothing
here uses, is left out of the build. Whatever is missing is said in one sentence with the cure.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

from vegtts_core.errors import UserError

_WHERE = ("/usr/local/cuda", "/usr/local/cuda-13", "/usr/local/cuda-12", "/opt/cuda", "/usr/lib/cuda")
#: Checks the finished build in a fresh process: a context, and a launch-ready device.
_TRIAL = "import pycuda.driver as d; d.init(); print(d.Device(0).name(), '%d.%d' % d.Device(0).compute_capability())"


def requirements() -> list[str]:
    """What pyproject.toml's extra ``gpu`` names."""
    marked = [text.partition(";") for text in requires("vegtts-core") or []]
    return [name.strip() for name, _, marker in marked if marker.replace('"', "'").strip() == "extra == 'gpu'"]


def driver() -> None:
    """Raises UserError without an NVIDIA driver that this process can load."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise UserError(
            "No NVIDIA driver (libcuda.so.1) is on this machine: run `make gpu` on the machine with the GPU."
        ) from None


def toolkit(environment: Mapping[str, str]) -> Path:
    """The CUDA toolkit's folder. Raises UserError if there is none with nvcc and cuda.h."""
    named = environment.get("CUDA_HOME") or environment.get("CUDA_PATH")
    found = shutil.which("nvcc", path=environment.get("PATH"))
    candidates = [named] if named else [*([str(Path(found).resolve().parents[1])] if found else []), *_WHERE]
    for folder in map(Path, candidates):
        if (folder / "bin" / "nvcc").is_file() and (folder / "include" / "cuda.h").is_file():
            return folder
    where = f"under CUDA_HOME={named}" if named else "on PATH or in the usual folders"
    raise UserError(f"No CUDA toolkit (nvcc, cuda.h) {where}: install CUDA 12 or 13's toolkit, or set CUDA_HOME.")


def library_folders(cuda: Path) -> list[str]:
    """Folders in which the linker finds libcuda and libcudart: the real driver before the toolkit's stub."""
    folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", f"{cuda}/lib64", f"{cuda}/lib64/stubs"]
    return [folder for folder in folders if Path(folder).is_dir()]


def build(cuda: Path, environment: Mapping[str, str]) -> None:
    """Install the extra into this environment. Raises UserError with the last line of pip's complaint."""
    with tempfile.TemporaryDirectory() as home:
        # PyCUDA's build reads its options from this file in the home folder.
        Path(home, ".aksetup-defaults.py").write_text(
            f"CUDA_ROOT = {str(cuda)!r}\nCUDA_ENABLE_CURAND = False\n"
            f"CUDADRV_LIB_DIR = {library_folders(cuda)!r}\nCUDART_LIB_DIR = [{str(cuda / 'lib64')!r}]\n"
        )
        changed = {
            "HOME": home,
            "PATH": f"{cuda / 'bin'}{os.pathsep}{environment.get('PATH', '')}",
            "LIBRARY_PATH": os.pathsep.join([*library_folders(cuda), environment.get("LIBRARY_PATH", "")]).strip(":"),
        }
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *requirements()]
        done = subprocess.run(pip, env={**environment, **changed}, text=True, stderr=subprocess.PIPE)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"PyCUDA could not be built with {cuda} ({(lines or ['no message'])[-1].strip()[:200]}).")


def main() -> int:
    """Check, build, try: 0, or 2 with one sentence."""
    try:
        driver()
        cuda = toolkit(os.environ)
        if importlib.util.find_spec("torch") is None:
            raise UserError("torch is not in this environment: run `make setup` first.")
        build(cuda, os.environ)
        tried = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True)
        if tried.returncode:
            last = (tried.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"PyCUDA is installed but finds no usable GPU ({last[:200]}): see nvidia-smi.")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Ready: {tried.stdout.strip()}, toolkit {cuda}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
