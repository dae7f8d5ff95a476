"""The real compiler, real errors and the cache."""

import ctypes
import os
import shutil
import subprocess
import sys

import pytest

from vegtts_core.errors import UserError
from vegtts_core.kernels import cpp

ADD = 'extern "C" int add(int a, int b) { return a + b; }\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VEGTTS_CACHE", str(tmp_path / "cache"))


def test_a_source_becomes_a_function():
    library = cpp.load(ADD)
    assert library.add(2, 40) == 42


TEAM = """
extern "C" int team() {
    int n = 0;
#pragma omp parallel num_threads(2)
    {
#pragma omp atomic
        n++;
    }
    return n;
}
"""


def test_openmp_works():
    # In a process of its own: its threads must not stay in one that other tests fork.
    program = f"from vegtts_core.kernels import cpp; print(cpp.load({TEAM!r}).team())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "2", done.stderr


def test_equal_sources_compile_once_and_different_ones_apart(tmp_path):
    first = cpp.compile_library(ADD)
    stamp = first.stat().st_mtime_ns
    assert cpp.compile_library(ADD) == first and first.stat().st_mtime_ns == stamp
    other = cpp.compile_library(ADD, ["-DNDEBUG"])
    assert other != first
    # Nothing half-built is left behind.
    assert sorted(first.parent.iterdir()) == sorted([first, other])


def test_compile_errors_carry_lines_of_the_source():
    with pytest.raises(cpp.CompileError) as caught:
        cpp.compile_library('extern "C" int f() {\n    return missing;\n}\nint g() { return 1 }\n')
    assert [d.line for d in caught.value.diagnostics] == [2, 4]
    assert "missing" in caught.value.diagnostics[0].message
    assert str(caught.value).startswith("line 2: ")
    assert not list(cpp.cache_folder().glob("cpp/*"))


def test_errors_without_lines_still_have_a_message():
    with pytest.raises(cpp.CompileError, match="no-such-option") as caught:
        cpp.compile_library(ADD, ["-fno-such-option"])
    assert caught.value.diagnostics == ()


def test_processes_that_compile_the_same_share_one_library():
    program = f"from vegtts_core.kernels import cpp; print(cpp.compile_library({ADD!r}))"
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    paths = {process.communicate()[0].strip() for process in running}
    assert len(paths) == 1 and ctypes.CDLL(paths.pop()).add(1, 2) == 3


def test_a_missing_compiler_is_one_sentence_with_the_package(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"install the Debian package g\+\+"):
        cpp.find_compiler()


@pytest.fixture
def clang(tmp_path, monkeypatch):
    """Makes the only compiler on PATH one that is called clang++, and has it compile with the given line of a shell."""

    def make(compile_line):
        monkeypatch.delenv("CXX", raising=False)
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "clang++"
        script.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Debian clang version 14.0.6"; exit 0; fi\n'
            f"echo compiling >> {folder}/log\n{compile_line}\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder / "log"

    return make


def test_a_compiler_whose_openmp_is_not_gccs_is_named_once_and_not_blamed_on_kernels(clang):
    log = clang("echo \"ld: undefined reference to '__kmpc_fork_call'\" >&2; exit 1")
    with pytest.raises(UserError, match=r"clang\+\+.*__kmpc_fork_call.*install the Debian package g\+\+"):
        cpp.kernel_command()
    assert log.read_text() == "compiling\n"


def test_another_compiler_is_tried_once_and_used_if_it_can_do_openmp(clang):
    log = clang(f'PATH=/usr/local/bin:/usr/bin:/bin exec {shutil.which("g++")} "$@"')
    command = cpp.kernel_command()
    assert command[0].endswith("/bin/clang++") and cpp.kernel_command() == command
    assert log.read_text() == "compiling\n"


def test_gcc_is_not_tried(monkeypatch):
    monkeypatch.setattr(cpp, "_try_openmp", lambda _: pytest.fail("g++ was tried"))
    assert cpp.find_compiler().is_gcc and cpp.kernel_command()


def test_cxx_is_used_and_a_wrong_one_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="CXX names 'no-such-compiler'"):
        cpp.find_compiler()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(UserError, match="does not start"):
        cpp.find_compiler()


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cpp.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VEGTTS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cpp.cache_folder() == tmp_path / "xdg" / "vegtts_core"


def test_a_cache_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("VEGTTS_CACHE", str(blocked))
    with pytest.raises(UserError, match="set VEGTTS_CACHE"):
        cpp.compile_library(ADD)
