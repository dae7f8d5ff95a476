"""The teacher's context: what it holds, in which order, and that the student's code is not in it."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.scaffolds import ForwardScaffold
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.tasks import get_task
from vegtts_core.training.teacher import (
    CLOSING,
    Feedback,
    SelfDistillationParameters,
    choose_solution,
    teacher_prompt,
    teacher_prompt_for,
    teacher_tokens,
    token_advantages,
    without_excerpts,
)

PROMPT = ForwardScaffold().prompt(get_task(30), [get_task(number) for number in DEFAULT_EXAMPLES])


def row(body="return x.abs()", correct=True, speedup=1.0, **columns):
    values = {
        "task": "level1/30",
        "completion": f"\n        {body}\n",
        "body": body,
        "fingerprint": body,
        "stage": "reward" if correct else "correctness",
        "error": None if correct else "exception",
        "reason": "" if correct else "forward raised ValueError: no.",
        "sound_correct": correct,
        "sound_speedup": speedup if correct else None,
        "sound_candidate_seconds": [1e-3, 3e-3, 2e-3] if correct else None,
    }
    return values | columns


def question(prompt):
    """The last message of the user."""
    return [message.content for message in prompt.messages if message.role is Role.USER][-1]


def added(prompt, original=PROMPT):
    assert question(prompt).startswith(question(original))
    return question(prompt)[len(question(original)) :]


def test_the_context_holds_exactly_this():
    feedback = Feedback(True, False, error="exception", reason="forward raised ValueError: no.", completion="y = 1")
    assert added(teacher_prompt(PROMPT, feedback, "return F.softsign(x)")) == (
        "\n\nA correct solution:\n\n```\nreturn F.softsign(x)\n```"
        "\n\nAn earlier attempt was run, with this outcome:\n\n- Compiled: yes\n- Correct: no\n"
        "- Error (exception): forward raised ValueError: no."
        "\n\nCorrectly solve the original question."
    )
    fast = Feedback(True, True, speedup=1.2345, runtime=2e-3)
    assert added(teacher_prompt(PROMPT, fast, None, closing=False)) == (
        "\n\nAn earlier attempt was run, with this outcome:\n\n- Compiled: yes\n- Correct: yes\n"
        "- Speedup over the reference: 1.23x\n- Runtime: 2 ms"
    )
    refused = Feedback(None, False, error="refused_syntax")
    assert added(teacher_prompt(PROMPT, refused, None)).endswith(
        "- Compiled: not tried, the answer was refused\n- Correct: no\n- Error (refused_syntax)\n\n" + CLOSING
    )


def test_only_the_last_question_changes_and_the_opening_stays_last():
    prompt = teacher_prompt(PROMPT, Feedback(False, False, error="compile_error"), "return x")
    changed = [a != b for a, b in zip(prompt.messages, PROMPT.messages, strict=True)]
    assert changed == [False] * (len(changed) - 2) + [True, False]
    assert prompt.messages[-1] == PROMPT.messages[-1] and prompt.messages[-1].role is Role.ASSISTANT
    assert prompt.stop == PROMPT.stop


def test_prompt_only_differs_by_the_closing_instruction_and_without_it_not_at_all():
    prompt_only = teacher_prompt(PROMPT, None, None)
    assert added(prompt_only) == f"\n\n{CLOSING}"
    assert teacher_prompt(PROMPT, None, None, closing=False) == PROMPT
    rows = [row(), row("return x.sign()", correct=False)]
    parameters = SelfDistillationParameters(feedback=False, solution=False)
    assert teacher_prompt_for(PROMPT, rows, 1, parameters) == prompt_only
    silent = SelfDistillationParameters(feedback=False, solution=False, closing=False)
    assert teacher_prompt_for(PROMPT, rows, 1, silent) == PROMPT


def test_ids_are_those_of_the_messages():
    one, again = (teacher_prompt(PROMPT, Feedback(True, True, speedup=2.0), None) for _ in range(2))
    other = teacher_prompt(PROMPT, Feedback(True, True, speedup=3.0), None)
    assert one == again and len({one.id, other.id, PROMPT.id}) == 3
    assert re.fullmatch("[0-9a-f]{16}", one.id)
    with pytest.raises(UserError, match="no message of the user"):
        teacher_prompt(Prompt("p", (Message(Role.SYSTEM, "s"), Message(Role.ASSISTANT, "a"))), None, None)


def test_feedback_from_rows():
    assert Feedback.of(row(speedup=1.5)) == Feedback(True, True, 1.5, 2e-3, completion="\n        return x.abs()\n")
    failed = Feedback.of(row("return x", correct=False, error="compile_error", stage="compile"))
    assert (failed.compiled, failed.correct, failed.speedup, failed.runtime) == (False, False, None, None)
    assert (failed.error, failed.reason) == ("compile_error", "forward raised ValueError: no.")
    refused = row(correct=False, stage="scaffold", body=None, sound_correct=None, sound_candidate_seconds=math.nan)
    assert Feedback.of(refused).compiled is None and not Feedback.of(refused).correct
    # Correct under the published rules, whatever the sound ones found wrong with it.
    published = row(correct=False, published_correct=True, published_speedup=math.nan)
    assert Feedback.of(published, "published") == Feedback(True, True, completion=published["completion"])
    assert "never_shown" not in repr(Feedback(True, True, completion="never_shown"))


def test_the_solution_is_the_fastest_other_candidate_of_the_task():
    rows = [
        row("return x.abs()", speedup=1.0),
        row("return F.softsign(x)", speedup=3.0),
        row("return F.softsign(x)", speedup=3.5),
        row("return x.sign()", correct=False),
        row("return x / 2", speedup=9.0, task="level1/4"),
        row("return x / (1 + x.abs())", speedup=None),
    ]
    assert choose_solution(rows, 0) == choose_solution(rows, 3) == "return F.softsign(x)"
    assert choose_solution(rows, 1) == choose_solution(rows, 2) == "return x.abs()"  # not a copy of its own
    assert choose_solution(rows, 4) is None
    assert choose_solution(rows[3:], 0) == "return x / (1 + x.abs())"
    # The same words under another fingerprint, or in a refused completion, are the student's own code as well.
    assert choose_solution([row("return x", fingerprint="1"), row("return  x", fingerprint="2")], 0) is None
    refused = row(completion="return x", body=None, fingerprint=None, correct=False)
    assert choose_solution([refused, row("return x")], 0) is None
    # The first of equally fast ones; the published protocol has its own columns.
    equal = [row("a"), row("b", speedup=2.0), row("c", speedup=2.0, published_correct=True, published_speedup=1.0)]
    assert choose_solution(equal, 0) == "b" and choose_solution(equal, 0, "published") == "c"


# --- The student's code ------------------------------------------------------------------------------------------


def words(text):
    # repr() writes line breaks as \n: they are spacing as well.
    return re.findall(r"\w+|[^\w\s]", re.sub(r"\\[nrt]", " ", text))


def runs(text, size):
    found = words(text)
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}


LEAKS = [
    ("y = x / (1 + fabsf(x))", "The line 'y = x / (1 + fabsf(x' is not of the form name = value."),
    ("block = 300", "block = 300: it must be from 32 to 256."),
    ("return x @ torch.tril(y)", "in forward: return x @ torch.tril(y) ~~^~~ RuntimeError: shapes differ"),
    (
        "float v = undeclared + in[i];",
        "line 3: 'undeclared' was not declared; 3 |  float v = undeclared +in[i]; | ^~~~~",
    ),
    ('raise ValueError("my own code: return x.mul(2)")', "forward raised ValueError: my own code: return x.mul(2)."),
]


@pytest.mark.parametrize(("completion", "reason"), LEAKS)
def test_messages_that_quote_the_code_are_shown_without_it(completion, reason):
    text = added(
        teacher_prompt(PROMPT, Feedback(True, False, error="exception", reason=reason, completion=completion), None)
    )
    assert "…" in text and text.count("\n- Error (exception): ") == 1
    assert not runs(completion, 3) & runs(text, 3)


def test_what_is_no_quotation_stays():
    reason = "forward raised RuntimeError: The size of tensor a (5632) must match the size of tensor b (2816)."
    feedback = Feedback(True, False, error="exception", reason=reason, completion="return a.size(b) + b.match")
    assert reason in added(teacher_prompt(PROMPT, feedback, None))
    # A name alone is no code, and what the question or the solution says is no secret.
    feedback = Feedback(None, False, reason="It uses the method or attribute trim.", completion="return x.trim(1)")
    assert feedback.reason in added(teacher_prompt(PROMPT, feedback, None))
    feedback = Feedback(True, False, reason="At x / (1 + y) it stopped.", completion="return x / (1 + y)")
    assert "At … it stopped" in added(teacher_prompt(PROMPT, feedback, None))
    assert feedback.reason in added(teacher_prompt(PROMPT, feedback, "z = x / (1 + y)"))
    hidden = added(
        teacher_prompt(PROMPT, Feedback(None, False, reason="It uses trim.", completion="trim"), None, True, 0)
    )
    assert "It uses …." in hidden


PIECES = st.sampled_from(
    ["return", "x", "torch", ".", "(", ")", "=", "1", "…", "Error", "Compiled", ":", "-", "yes", "Correctly", "solve",
     "the", "original", "question", "\\n", "'", "é"]
)  # fmt: skip
CODE = st.lists(PIECES, max_size=12)


@st.composite
def leaking(draw):
    """A completion, and a message made of pieces of it and of other words, in any layout."""
    code = draw(CODE)
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(code)))
        parts += draw(CODE) + code[start : draw(st.integers(start, len(code)))]
    space = st.sampled_from([" ", "  ", "\n    "])
    return "".join(p + draw(space) for p in code), "".join(p + draw(space) for p in parts)


@given(leaking(), CODE.map(" ".join), st.none() | CODE.map(" ".join), st.integers(0, 4))
@example(("a … b c", "a x y z b c"), "", None, 2)
@example(("return x ( 1 )", "return x ( 1 )"), "return x ( and x ( 1 and ( 1 )", None, 2)
@example(("Correct no Error x", "x y"), "", None, 2)
def test_no_run_of_the_students_tokens_is_in_the_context(pair, asked, solution, longest):
    completion, reason = pair
    prompt = Prompt("p", (Message(Role.USER, asked), Message(Role.ASSISTANT, "```")))
    feedback = Feedback(True, False, error="exception", reason=reason, completion=completion)
    shown = added(teacher_prompt(prompt, feedback, solution, True, longest), prompt)
    frames = []
    for text in ("", "MESSAGE"):
        empty = Feedback(True, False, error="exception", reason=text)
        frames += added(teacher_prompt(prompt, empty, solution, True, longest), prompt).split("MESSAGE")
    for size in range(longest + 1, len(words(completion)) + 1):
        public = set().union(*(runs(text, size) for text in (asked, solution or "", *frames)))
        assert not (runs(completion, size) & runs(shown, size)) - public


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_taken(completion, reason):
    prompt = teacher_prompt(PROMPT, Feedback(True, False, reason=reason, completion=completion), None)
    assert added(prompt).endswith(CLOSING)


def test_excerpts_of_compilers_and_tracebacks():
    gcc = (
        "<stdin>:3:5: error: 'q' was not declared\n    3 |     q = 1;\n      |     ^\n<stdin>:4:1: error: expected ';'"
    )
    assert without_excerpts(gcc) == "<stdin>:3:5: error: 'q' was not declared\n<stdin>:4:1: error: expected ';'"
    nvrtc = 'completion(2): error: identifier "q" is undefined\n      q = 1;\n      ^\n\n1 error detected.'
    assert without_excerpts(nvrtc) == 'completion(2): error: identifier "q" is undefined\n\n1 error detected.'
    python = (
        'Traceback (most recent call last):\n  File "c.py", line 3, in forward\n    return x.q\n           ^^^\n'
        "AttributeError: 'Tensor' object has no attribute 'q'"
    )
    shown = without_excerpts(python).splitlines()
    assert shown[1:] == ['  File "c.py", line 3, in forward', "AttributeError: 'Tensor' object has no attribute 'q'"]


# --- Numbers -----------------------------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(st.floats(-100, 0), st.floats(-100, 0)), max_size=20)


@given(PAIRS, st.floats(0.01, 10), st.none() | st.floats(0.01, 10))
def test_token_advantages(pairs, beta, clip):
    teacher, student = [a for a, _ in pairs], [b for _, b in pairs]
    found = token_advantages(teacher, student, beta, clip)
    assert found.dtype == np.float64 and found.shape == (len(pairs),)
    for value, a, b in zip(found, teacher, student, strict=True):
        plain = beta * (a - b)
        assert value == (plain if clip is None else max(-clip, min(clip, plain)))
    assert (token_advantages(np.array(student), student, beta) == 0).all()


def test_token_advantages_refuse_what_does_not_fit():
    assert token_advantages(np.zeros((2, 3)), np.ones((2, 3)), 1.0).shape == (2, 3)
    with pytest.raises(ValueError, match="shape"):
        token_advantages([0.0], [0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="finite"):
        token_advantages([-math.inf], [0.0], 1.0)


def test_tokens_are_counted_per_rollout():
    assert teacher_tokens([410, 420], [7, 15]) == 852
    with pytest.raises(ValueError):
        teacher_tokens([1], [1, 2])
