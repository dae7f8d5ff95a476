"""Wrong and hostile candidates end with reward 0 and their own error kind, and cost only themselves."""

from __future__ import annotations

import pytest
from making import raw, reference, with_forward

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator, Stage
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

#: name: task, body of forward, error kind, words of the reason
BODIES: dict[str, tuple[str, str, ErrorKind, str]] = {
    "wrong values": ("88", "return torch.relu(x)", ErrorKind.WRONG_VALUES, "beyond the budget"),
    "nan": ("19", "return x * float('nan')", ErrorKind.WRONG_VALUES, "NaN"),
    "wrong shape": ("88", "return x[1:]", ErrorKind.WRONG_SHAPE, "shape"),
    "wrong dtype": ("1", "return (A @ B).double()", ErrorKind.WRONG_TYPE, "float64"),
    "nothing": ("1", "pass", ErrorKind.WRONG_TYPE, "NoneType"),
    "a tuple": ("1", "return (A @ B,)", ErrorKind.WRONG_TYPE, "tuple"),
    "a subclass": (
        "1",
        "class T(torch.Tensor): pass\nreturn (A @ B).as_subclass(T)",
        ErrorKind.WRONG_TYPE,
        "a T",
    ),
    "exception": ("1", "raise ValueError('no\\nway' * 300)", ErrorKind.EXCEPTION, "ValueError: no way"),
    "system exit": ("1", "raise SystemExit(0)", ErrorKind.EXCEPTION, "SystemExit"),
    "endless loop": ("1", "while True: pass", ErrorKind.TIMEOUT, "ended after"),
    "memory": ("1", "return torch.ones(1 << 34).sum()", ErrorKind.OUT_OF_MEMORY, "1024 MiB"),
    "memory in python": (
        "1",
        "hog = []\nwhile True: hog.append(bytearray(1 << 26))",
        ErrorKind.OUT_OF_MEMORY,
        "1024 MiB",
    ),
    "print flood": ("1", "while True: print('x' * 1000)", ErrorKind.OUTPUT_FLOOD, "printed"),
    "file flood": (
        "1",
        "import tempfile\nf = tempfile.TemporaryFile()\nwhile True: f.write(bytes(1 << 16))",
        ErrorKind.EXCEPTION,
        "No space left on device",  # of its own scratch folder
    ),
    "early exit": ("1", "import os\nos._exit(0)", ErrorKind.CRASH, "exit code 0"),
    "segmentation fault": ("1", "import ctypes\nctypes.string_at(0)", ErrorKind.CRASH, "SIGSEGV"),
    "abort": ("1", "import os\nos.abort()", ErrorKind.CRASH, "SIGABRT"),
    "killing everyone": (
        "1",
        "import os, signal\n"
        "for pid in (os.getppid(), 1, -1):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError: pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        ErrorKind.CRASH,
        "",
    ),
    "input in place": ("19", "return x.sigmoid_()", ErrorKind.INPUT_MODIFIED, "`x`"),
    "input in place, same values": ("19", "return x.relu_()", ErrorKind.INPUT_MODIFIED, "input"),
    "input and honest output": ("19", "y = x.clamp(min=0)\nx.zero_()\nreturn y", ErrorKind.INPUT_MODIFIED, "`x`"),
    "returns its input": ("19", "return x", ErrorKind.INPUT_ALIASED, "one of its inputs"),
    "returns a view": ("1", "return B.T.T", ErrorKind.INPUT_ALIASED, "view"),
    "constant": ("94", "return torch.tensor(0.1666)", ErrorKind.INSENSITIVE, "same output"),
    "random": ("94", "return torch.rand(())", ErrorKind.NOT_REPEATABLE, "unequal"),
    "ignores an argument": ("97", "return torch.softmax(Q @ Q.transpose(-1, -2), -1) @ V", ErrorKind.WRONG_VALUES, ""),
    "ignores the scalar": ("5", "return A * 3.14", ErrorKind.INSENSITIVE, "another `s`"),
    "bfloat16 matmul": ("1", "return (A.bfloat16() @ B.bfloat16()).float()", ErrorKind.WRONG_VALUES, "budget"),
    "float16 matmul": ("1", "return A.half().float() @ B.half().float()", ErrorKind.WRONG_VALUES, "budget"),
    "tf32-like matmul": (
        "1",
        "cut = lambda x: (x.view(torch.int32) & -8192).view(torch.float32)\nreturn cut(A) @ cut(B)",
        ErrorKind.WRONG_VALUES,
        "budget",
    ),
    "bfloat16 elementwise": (
        "88",
        "return F.gelu(x.bfloat16(), approximate='tanh').float()",
        ErrorKind.WRONG_VALUES,
        "",
    ),
    "float16 and back": ("19", "return x.clamp(min=0).half().float()", ErrorKind.WRONG_VALUES, ""),
    "wrong index": ("51", "return x.argmin(self.dim)", ErrorKind.WRONG_VALUES, "wrong entries"),
    "index out of range": ("51", "return x.argmax(self.dim) + 10**6", ErrorKind.WRONG_VALUES, "wrong entries"),
    "only the first call": (
        "88",
        "if not hasattr(self, 'y'): self.y = F.gelu(x, approximate='tanh')\nreturn self.y.clone()",
        ErrorKind.INSENSITIVE,
        "",
    ),
    "remembers by fingerprint": (
        "88",
        "seen = self.__dict__.setdefault('seen', {})\nkey = len(seen) if len(seen) < 6 else 0\n"
        "return seen.setdefault(key, F.gelu(x, approximate='tanh'))",
        ErrorKind.WRONG_VALUES,
        "",
    ),
    "writes to every descriptor": (
        "1",
        "import os\n"
        "for fd in range(64):\n"
        "    for message in (bytes(100), b'D', b'W', b'R'):\n"
        "        try: os.write(fd, message)\n"
        "        except OSError: pass\n"
        "return A @ B",
        ErrorKind.CRASH,
        "channel",
    ),
}

SOURCES = {
    "syntax": ("def forward(:", "SyntaxError"),
    "null byte": ("\0", ""),
    "surrogate": ("x = '\ud800'", ""),
    "empty": ("", "does not define ModelNew"),
    "not a module": ("ModelNew = 3", "not callable"),
    "a function": ("def ModelNew(*a): return 3", "not an nn.Module"),
    "other weights": (
        "import torch\nclass ModelNew(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 2)",
        "weights",
    ),
    "raises at import": ("raise KeyboardInterrupt('x')", "KeyboardInterrupt"),
    "lies about its failure": (
        "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E()",
        "",
    ),
}


def test_each_wrong_body_has_its_own_kind(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    candidates = {name: with_forward(tasks[key], body) for name, (key, body, _, _) in BODIES.items()}
    verdicts = dict(zip(candidates, evaluator.evaluate(list(candidates.values())), strict=True))
    problems = []
    for name, (_, _, kind, words) in BODIES.items():
        verdict = verdicts[name]
        if verdict.error is not kind or words not in verdict.reason:
            problems.append((name, verdict.stage, verdict.error, verdict.reason))
        assert verdict.sound is not None and verdict.sound.reward == 0 and not verdict.sound.correct
        assert "\n" not in verdict.reason and len(verdict.reason) < 300 and verdict.reason.endswith(".")
    assert problems == []


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_do_not_build(evaluator: ForwardEvaluator, tasks: dict[str, Task], name: str) -> None:
    source, words = SOURCES[name]
    candidate = Candidate(tasks["1"].key, "module", "", source, name)
    (verdict,) = evaluator.evaluate([candidate])
    assert (verdict.error, verdict.stage) == (ErrorKind.COMPILE_ERROR, Stage.COMPILE)
    assert words in verdict.reason
    assert verdict.published is not None and not verdict.published.correct


def test_stale_memory_is_not_an_answer(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    """What it holds is chance, and so is whether two calls agree."""
    (verdict,) = evaluator.evaluate([with_forward(tasks["88"], "return torch.empty_like(x)")])
    assert verdict.error in (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE)


def test_published_and_sound_can_differ(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    """The benchmark's inputs are positive, so that its rules let `return x` pass for ReLU."""
    in_place, alias = evaluator.evaluate([with_forward(tasks["19"], body) for body in ("return x.relu_()", "return x")])
    for verdict in (in_place, alias):
        assert verdict.published is not None and verdict.published.correct and verdict.published.reward > 0
        assert verdict.sound is not None and not verdict.sound.correct


LINGERING = {
    "a thread that goes on": "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
    "processes that go on": "import os, time\nfor _ in range(500):\n    if os.fork() == 0:\n        os.setsid()\n"
    "        time.sleep(1000)",
    "a bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: break",
}


@pytest.mark.parametrize("name", LINGERING)
def test_what_a_candidate_leaves_behind_ends_with_it(
    evaluator: ForwardEvaluator, tasks: dict[str, Task], name: str
) -> None:
    evaluator.evaluate([with_forward(tasks["1"], LINGERING[name] + "\nreturn A @ B")])
    (verdict,) = evaluator.evaluate([with_forward(tasks["1"], f"return A.matmul(B)  # after {name}\n")])
    assert verdict.error is None, verdict.reason


def test_an_honest_candidate_passes_after_all_of_them(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    verdicts = evaluator.evaluate([reference(tasks["1"]), raw(tasks["1"], reference(tasks["1"]).source + "\n#")])
    assert all(verdict.error is None for verdict in verdicts)
