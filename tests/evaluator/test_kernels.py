"""C++ kernels through the whole evaluator: honest ones pass, each failure gets its own verdict."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from making import QUICK, reference

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator, Stage, Verdict
from vegtts_core.evaluator.failures import CandidateFailure
from vegtts_core.evaluator.processes import Process
from vegtts_core.kernels.examples import example_ids, example_text
from vegtts_core.kernels.kernel_scaffold import KernelScaffold
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, get_task

CPP = KernelScaffold(Language.CPP)
IDS = example_ids(Language.CPP)
TASKS = {id: get_task(id) for id in (*IDS, 82)}
GELU, HINGE, DEPTHWISE, SCALE = TASKS[88], TASKS[100], TASKS[84], TASKS[5]
QUICK_KERNELS = QUICK.model_copy(update={"limits": QUICK.limits.model_copy(update={"compile_seconds": 5})})


@pytest.fixture(scope="module")
def kernels() -> Iterator[ForwardEvaluator]:
    with ForwardEvaluator(TASKS.values(), QUICK_KERNELS) as running:
        yield running


def written(task: Task, completion: str) -> Candidate:
    found = CPP.parse(task, completion)
    assert isinstance(found, Candidate), found
    return found


def unchecked(task: Task, body: str, before: str = "") -> Candidate:
    """A kernel that the scaffold would refuse: what stands behind its walls."""
    signature = KernelSignature.of(task)
    source = f"{signature.preamble(Language.CPP)}{before}\nvoid kernel({signature.parameters()}) {{ {body} }}\n"
    return Candidate(task.key, "kernel", body, source, hashlib.sha256(source.encode()).hexdigest(), Language.CPP)


def verdict(kernels: ForwardEvaluator, candidate: Candidate) -> Verdict:
    (found,) = kernels.evaluate([candidate])
    assert not found.reason or (found.reason[0].isupper() and found.reason.endswith(".")), found.reason
    for measurement in (found.sound, found.published):
        assert measurement is not None
    return found


@pytest.mark.parametrize("id", IDS)
def test_honest_kernels_pass(kernels: ForwardEvaluator, id: int) -> None:
    task = TASKS[id]
    found = verdict(kernels, written(task, example_text(id, Language.CPP) or ""))
    assert (found.stage, found.error, found.reason) == (Stage.REWARD, None, "")
    assert found.sound is not None and found.published is not None
    assert found.sound.correct and found.sound.reward > 0 and found.sound.max_error <= 1
    assert found.published.correct and found.published.reward > 0


HEAD = "void kernel(const float* predictions, const float* targets, float* out)"
RIGHT = """
    double total = 0.0;
    for (long long i = 0; i < predictions_n; i++)
        total += max(1.0f - predictions[i] * targets[i % predictions_1], 0.0f);
    out[0] = float(total / predictions_n);
"""


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (RIGHT.replace("1.0f -", "2.0f -"), ErrorKind.WRONG_VALUES, "errors beyond the budget"),
        ("out[0] = 1.0f;", ErrorKind.INSENSITIVE, "same output"),
        ("", ErrorKind.WRONG_VALUES, "NaN"),
        ("out[0] += 1.0f;", ErrorKind.WRONG_VALUES, "NaN"),
        (f"static int calls = 0; {RIGHT} out[0] *= 1.0f + calls++;", ErrorKind.NOT_REPEATABLE, "unequal outputs"),
        (
            f"static float kept = 0; {RIGHT} if (!kept) kept = out[0]; out[0] = kept;",
            ErrorKind.INSENSITIVE,
            "same output",
        ),
        ("for (volatile int i = 0;; i = i + 1) {}", ErrorKind.TIMEOUT, "running its kernel"),
        (f"{RIGHT} out[1] = 0.0f;", ErrorKind.OUT_OF_BOUNDS, "beyond the end of its output"),
        (f"{RIGHT} out[1 << 20] = 0.0f;", ErrorKind.OUT_OF_BOUNDS, "SIGSEGV"),
        (f"{RIGHT} out[-1] = 0.0f;", ErrorKind.OUT_OF_BOUNDS, "SIGSEGV"),
        (RIGHT.replace("predictions_n; i", "2 * predictions_n; i"), ErrorKind.OUT_OF_BOUNDS, "SIGSEGV"),
        ("((float*)predictions)[0] = 2.0f;" + RIGHT, ErrorKind.INPUT_MODIFIED, "`predictions`"),
        ("volatile int zero = 0; out[0] = 7 / zero;", ErrorKind.CRASH, "SIGFPE"),
        ("out[0] = ((float(*)())0)();", ErrorKind.OUT_OF_BOUNDS, "SIGSEGV"),
        ("volatile float* p = (float*)malloc(size_t(3) << 30); p[0] = 0;", ErrorKind.OUT_OF_BOUNDS, "SIGSEGV"),
        ("out[0] = missing;", ErrorKind.COMPILE_ERROR, "line 1: 'missing' was not declared"),
        ("return 1 }", ErrorKind.COMPILE_ERROR, "line 1: "),
    ],
)
def test_every_failure_has_its_verdict(kernels: ForwardEvaluator, body: str, error: ErrorKind, words: str) -> None:
    found = verdict(kernels, written(HINGE, f"{HEAD} {{ {body} }}"))
    assert (found.error, words in found.reason) == (error, True), (found.error, found.reason)
    assert found.stage is (Stage.COMPILE if error is ErrorKind.COMPILE_ERROR else Stage.CORRECTNESS)
    assert found.sound is not None and found.published is not None
    assert found.sound.reward == 0
    if error not in (ErrorKind.INPUT_MODIFIED, ErrorKind.INSENSITIVE, ErrorKind.NOT_REPEATABLE):
        assert found.published.reward == 0


def test_a_read_just_beyond_an_input_is_not_a_number(kernels: ForwardEvaluator) -> None:
    body = "for (long long i = 0; i < out_n; i++) out[i] = 0 * conv2d_weight[conv2d_weight_n];"
    head = "void kernel(const float* x, const float* conv2d_weight, float* out)"
    found = verdict(kernels, written(DEPTHWISE, f"{head} {{ {body} }}"))
    assert found.error is ErrorKind.WRONG_VALUES and "NaN" in found.reason


BOMB = (
    "template <int N, long M> struct B { static constexpr int v = B<N - 1, 2 * M>::v + B<N - 1, 2 * M + 1>::v; };"
    "template <long M> struct B<0, M> { static constexpr int v = 1; }; int size = B<30, 0>::v;"
)


def test_a_compile_bomb_ends_at_the_limit(kernels: ForwardEvaluator) -> None:
    found = verdict(kernels, written(HINGE, f"{BOMB}\n{HEAD} {{ {RIGHT} }}"))
    assert found.stage is Stage.COMPILE and found.error in (ErrorKind.TIMEOUT, ErrorKind.OUT_OF_MEMORY)


SYSCALL = (
    "static long call(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {"
    'register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;'
    'asm volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");'
    "return n; }"
)
X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls are written for x86-64")


@X86
@pytest.mark.parametrize(
    "call",
    [
        "call(41, 2, 1, 0)",  # socket
        "call(57)",  # fork
        'call(59, (long)"/bin/true", 0, 0)',  # execve
        "call(62, -1, 9)",  # kill
        "call(234, 1, 1, 9)",  # tgkill of the warden
        "call(101, 16, 1, 0, 0)",  # ptrace
        "call(317, 1, 0, 0)",  # seccomp
        "call(9, 0, 4096, 7, 0x22, -1, 0)",  # mmap of executable memory
        "call(10, (long)out & -4096, 4096, 7)",  # mprotect to executable
        "call(222, 0, 0, 0)",  # timer_create
        "call(319, 0, 0)",  # memfd_create
    ],
)
def test_system_calls_end_the_process(kernels: ForwardEvaluator, call: str) -> None:
    found = verdict(kernels, unchecked(HINGE, f"{call}; {RIGHT}", SYSCALL))
    assert (found.error, found.stage) == (ErrorKind.FORBIDDEN_CALL, Stage.CORRECTNESS), found.reason


@X86
def test_files_cannot_be_opened(kernels: ForwardEvaluator, tmp_path: Path) -> None:
    body = f'if (call(257, -100, (long)"/etc/passwd", 0, 0) >= 0) return; {RIGHT}'
    assert verdict(kernels, unchecked(HINGE, body, SYSCALL)).error is None


@X86
def test_an_answer_before_the_work_is_done_earns_nothing(kernels: ForwardEvaluator) -> None:
    early = 'for (int fd = 3; fd < 64; fd++) call(44, fd, (long)"D", 1, 0x4000, 0, 0);'
    slow = f"for (int again = 0; again < 20; again++) {{ {RIGHT} }}"
    found = verdict(kernels, unchecked(HINGE, f"{early} {slow} for (;;) call(24);", SYSCALL))
    assert found.error in (ErrorKind.LINGERING, ErrorKind.WRONG_VALUES), found.reason


class _Slow:
    """The evaluator's end of a channel on a machine that is busy: an answer is read after a while."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, *arguments: int) -> bytes:
        if len(arguments) == 1:
            time.sleep(0.002)
        return self._channel.recv(*arguments)


#: What a kernel does after it has answered by itself, and the least that it is charged (s). The last thing is to wait.
_AFTER = {
    "works on": ("for (;;);", 0.5e-3),
    "works a little": ("for (volatile int i = 0; i < 200000; i++);", 0.0),
    "rests": ("", 0.0),
}


@X86
@pytest.mark.timing
@pytest.mark.parametrize("name", _AFTER)
def test_work_between_the_answer_and_the_stop_is_paid_for(
    kernels: ForwardEvaluator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """However late the evaluator comes to it: by the clock until it reads the answer, then by the process's own."""
    work, least = _AFTER[name]
    body = (
        'for (int fd = 3; fd < 64; fd++) call(44, fd, (long)"D", 1, 0x4000, 0, 0);'
        f"{work} int word = 0; for (;;) call(202, (long)&word, 0, 0, 0);"
    )
    process = kernels._session_of(HINGE).start(unchecked(HINGE, body, SYSCALL), writable_inputs=False)
    assert isinstance(process, Process)
    try:
        process.await_ready()
        monkeypatch.setattr(process, "_control", _Slow(process._control))
        monkeypatch.setattr(process, "_signal", lambda number: (time.sleep(0.002), Process._signal(process, number)))
        start = process.begin()
        seconds, charged = process.await_done() - start, process._stop_at_once()
    except CandidateFailure as failure:  # a machine that is busier still
        assert failure.kind is ErrorKind.LINGERING
        seconds = charged = 1.0
    finally:
        process.close()
    assert seconds > 0.002
    assert charged > least if least else charged == 0


@pytest.mark.parametrize(
    ("before", "body", "words"),
    [
        ('extern "C" int system(const char*);', 'system("true");', "It calls system"),
        ('extern "C" int pthread_create(void*, void*, void*, void*);', "pthread_create(0, 0, 0, 0);", "pthread_create"),
        ('extern "C" int open(const char*, int); extern "C" int dup(int);', "dup(open(0, 0));", "dup, open"),
        ("static int f() { volatile int n = 1; return n + n; } static int x = f();",
         "out[0] = x;", "before the kernel is called"),
        ("__attribute__((constructor)) static void f() { for (;;); }", "", "before the kernel is called"),
    ],
)  # fmt: skip
def test_libraries_are_looked_at_before_they_are_loaded(
    kernels: ForwardEvaluator, before: str, body: str, words: str
) -> None:
    found = verdict(kernels, unchecked(HINGE, f"{body} {RIGHT}", before))
    assert (found.error, found.stage) == (ErrorKind.FORBIDDEN_CALL, Stage.COMPILE)
    assert words in found.reason


def test_a_host_file_cannot_be_included(kernels: ForwardEvaluator, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h"
    secret.write_text("#error the secret words\n")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    found = verdict(kernels, unchecked(HINGE, RIGHT, f'#include "{secret}"'))
    assert found.error is ErrorKind.COMPILE_ERROR and "secret words" not in found.reason


def test_numbers_weights_and_forward_candidates_live_side_by_side(kernels: ForwardEvaluator) -> None:
    code = "void kernel(const float* A, float s, float* out) { for (int i = 0; i < out_n; i++) out[i] = s * A[i]; }"
    kernel, wrong = written(SCALE, code), written(SCALE, code.replace("s * A", "3.14f * A"))
    errors = [found.error for found in kernels.evaluate([kernel, reference(SCALE), wrong, kernel])]
    assert errors == [None, None, ErrorKind.INSENSITIVE, None]


def test_cuda_is_refused_by_a_verdict(kernels: ForwardEvaluator) -> None:
    found = KernelScaffold(Language.CUDA).parse(GELU, example_text(88, Language.CUDA) or "")
    assert isinstance(found, Candidate)
    refused = verdict(kernels, found)
    assert (refused.error, refused.stage) == (ErrorKind.UNSUPPORTED, Stage.COMPILE)
    assert "CUDA" in refused.reason and refused.sound is not None and refused.sound.reward == 0
