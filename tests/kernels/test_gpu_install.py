"""`make gpu`: what it asks for, and what it says where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vegtts_core.errors import UserError
from vegtts_core.kernels.cuda import install


def _toolkit(folder: Path) -> Path:
    for name in ("bin/nvcc", "include/cuda.h"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return folder


def test_the_extra_is_pycuda_and_the_driver_s_own_library() -> None:
    assert [name.partition("==")[0] for name in install.requirements()] == ["pycuda", "nvidia-ml-py"]


def test_a_named_toolkit_is_taken(tmp_path: Path) -> None:
    cuda = _toolkit(tmp_path / "cuda")
    assert install.toolkit({"CUDA_HOME": str(cuda), "PATH": ""}) == cuda


def test_a_toolkit_on_the_path_is_found(tmp_path: Path) -> None:
    cuda = _toolkit(tmp_path / "cuda")
    assert install.toolkit({"PATH": str(cuda / "bin")}) == cuda


def test_a_wrong_cuda_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"under CUDA_HOME={tmp_path}: install CUDA"):
        install.toolkit({"CUDA_HOME": str(tmp_path), "PATH": ""})


def test_a_failed_build_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "requirements", lambda: [str(tmp_path / "nothing.whl")])
    with pytest.raises(UserError, match=r"^PyCUDA could not be built with \S+ \(.+\)\.$"):
        install.build(_toolkit(tmp_path / "cuda"), os.environ)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_without_a_gpu_make_gpu_says_so_in_one_sentence() -> None:
    command = [sys.executable, "-m", "vegtts_core.kernels.cuda.install"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and "run `make gpu` on the machine with the GPU" in done.stderr
