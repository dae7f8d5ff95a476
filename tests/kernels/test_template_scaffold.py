"""The template scaffold: prompts out, completions in, candidates or refusals out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.kernels.templates import TemplateFamily, TemplateScaffold, covered, honest_filling, template_of
from vegtts_core.kernels.templates.scaffold import evaluation_tasks
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate, Refusal, RefusalKind, Role
from vegtts_core.tasks import get_task, named_selections

CPP, CUDA = TemplateScaffold(Language.CPP), TemplateScaffold(Language.CUDA)
SWISH, SUM, TRIANGULAR, SCAN, PRODUCT = (get_task(id) for id in (25, 47, 14, 91, 1))
HONEST = honest_filling(SWISH)


def candidate(found):
    assert isinstance(found, Candidate), found
    return found


def refusal(found):
    assert isinstance(found, Refusal), found
    assert found.reason[0].isupper() or found.reason[0] == "'" or "=" in found.reason
    assert found.reason.endswith(".")
    return found


def test_the_prompt_states_task_template_holes_and_opens_a_fence():
    prompt = CPP.prompt(SWISH)
    question = prompt.messages[-2].content
    assert "return x * torch.sigmoid(x)" in question and "x: 288 x 27648" in question and "Template (map)" in question
    for hole in template_of(SWISH).holes:
        assert f"- {hole.name}: " in question
    assert "block: one of 64, 128, 256, 512, 1024; " in question and "(default 256)" in question
    assert (
        prompt.messages[-1].role is Role.ASSISTANT and prompt.messages[-1].content == "```" and prompt.stop == ("```",)
    )
    assert "expf" not in question and CPP.prompt(SWISH) == prompt and CUDA.prompt(SWISH).id != prompt.id
    assert "eps = 1e-05" in CPP.prompt(get_task(36)).messages[-2].content
    assert "M = 768, N = 768, K = 768" in CPP.prompt(TRIANGULAR).messages[-2].content


def test_examples_are_training_tasks_of_every_split_and_nothing_else():
    prompt = CPP.prompt(get_task(28), [SWISH, SUM])
    assert [m.role for m in prompt.messages] == [Role.SYSTEM, *[Role.USER, Role.ASSISTANT] * 3]
    assert HONEST in prompt.messages[2].content and honest_filling(SUM) in prompt.messages[4].content
    evaluated = {id for name, ids in named_selections().items() if "eval" in name or "subset" in name for id in ids}
    assert evaluated == evaluation_tasks() and len(evaluated) > 40
    for id in evaluated:
        with pytest.raises(UserError, match="evaluation task"):
            CPP.prompt(SWISH, [get_task(id)])
    with pytest.raises(UserError, match="evaluation task"):
        CPP.prompt(SWISH, [get_task("12-diag")])
    shown = {e.family for e in covered() if e.family and get_task(e.key).id not in evaluated}
    # All full reductions are evaluated somewhere; their holes are those of the row reductions.
    assert set(TemplateFamily) - shown == {TemplateFamily.FULL_REDUCTION}


@pytest.mark.parametrize(
    "completion",
    [
        HONEST,
        f"\n{HONEST}\n",
        f"{HONEST}\n```\nThis is fast because = of SIMD.",
        f"Here it is:\n```c\n{HONEST}\n```",
        f"```\n{HONEST}",
        f"python\n{HONEST}",
        f"c++ \r\n{HONEST}\n```",
        HONEST.replace("\n", ";  // a remark\n\n") + ";",
        HONEST.replace("x / (1.f + expf(-x))", "x/(1.0f+expf(-x))").replace("\n", "\r\n"),
    ],
)
def test_forms_of_one_filling_are_read(completion):
    found = candidate(CPP.parse(SWISH, completion))
    assert "constexpr Word STORE = Word::streaming;" in found.source and "constexpr int BLOCK = 256;" in found.source
    assert found.scaffold == "template" and found.language is Language.CPP and found.launch is None


def test_equal_meaning_is_one_fingerprint_and_defaults_are_part_of_it():
    first = candidate(CPP.parse(SWISH, "y = x / (1.f + expf(-x))"))
    assert candidate(CPP.parse(SWISH, "block=256\ny = x/( 1.f+expf( -x ) );")).fingerprint == first.fingerprint
    assert candidate(CPP.parse(SWISH, "block=512\ny = x/(1.f+expf(-x))")).fingerprint != first.fingerprint
    assert candidate(CUDA.parse(SWISH, "y = x / (1.f + expf(-x))")).fingerprint != first.fingerprint
    assert first.body.startswith("y = x / (1.f + expf(- x))\nblock = 256\n")


@pytest.mark.parametrize(
    ("task", "completion", "kind", "reason"),
    [
        (SWISH, "", RefusalKind.EMPTY, "fills no hole"),
        (SWISH, "```\n```", RefusalKind.EMPTY, "fills no hole"),
        (SWISH, "I would use a fast kernel.", RefusalKind.SYNTAX, "not of the form name = value"),
        (SWISH, "\npython\ny = x", RefusalKind.SYNTAX, "The line 'python' is not of the form"),
        (SWISH, "y = x\npython\n", RefusalKind.SYNTAX, "The line 'python' is not of the form"),
        (SWISH, "y =", RefusalKind.SYNTAX, "not of the form"),
        (SWISH, "y == x", RefusalKind.SYNTAX, "not of the form"),
        (SWISH, "y = x\ny = x", RefusalKind.SYNTAX, "filled twice"),
        (SWISH, "block = 256", RefusalKind.SYNTAX, "'y' is not filled and has no default"),
        (
            SWISH,
            "y = x\nthreads = 8",
            RefusalKind.FORBIDDEN,
            "'threads' is not a hole of this template; it has y, block",
        ),
        (SWISH, "y = x\nblock = 100", RefusalKind.FORBIDDEN, "one of 64, 128, 256, 512, 1024"),
        (SWISH, "y = x\nblock = 1024 * 2", RefusalKind.FORBIDDEN, "takes an integer"),
        (SWISH, "y = x\nblock = 256.0", RefusalKind.FORBIDDEN, "takes an integer"),
        (SWISH, "y = x\nstore = 3", RefusalKind.FORBIDDEN, "takes a word"),
        (SWISH, "y = x\nstore = fast", RefusalKind.FORBIDDEN, "one of cached, streaming"),
        (SWISH, "y = x > 0", RefusalKind.FORBIDDEN, "a truth value where a float"),
        (SWISH, "y = out", RefusalKind.FORBIDDEN, "'out' is not a name of this hole"),
        (SWISH, "y = x); system(", RefusalKind.FORBIDDEN, "is not part of an expression"),
        (SUM, "element = x\ncombine = plus", RefusalKind.FORBIDDEN, "one of sum, product, max, min"),
        (TRIANGULAR, "c = acc\nk_begin = 0.5f * m_first", RefusalKind.FORBIDDEN, "a float where an int"),
        (TRIANGULAR, "c = acc\nsplit_k = 65", RefusalKind.FORBIDDEN, "from 1 to 64"),
        (SWISH, "y = x\n" * 100, RefusalKind.TOO_LONG, "at most 8000"),
        (SWISH, "y = x\0", RefusalKind.FORBIDDEN, "not part of an expression"),
    ],
)
def test_refusals_say_why(task, completion, kind, reason):
    found = refusal(CPP.parse(task, completion))
    assert found.kind is kind and reason in found.reason


@pytest.mark.parametrize(
    ("task", "completion", "reason"),
    [
        (SCAN, "element = x\ncombine = sum\nblock = 64\ntogether = 8", "less than a warp"),
        (PRODUCT, "c = acc\ntile_m = 128\ntile_n = 128\nthread_m = 1\nthread_n = 1", "16384 threads"),
        (PRODUCT, "c = acc\ntile_m = 128\ntile_n = 128\ntile_k = 128\nthread_m = 8", "of shared memory"),
        (SUM, "element = x\ncombine = sum\ntile = 512\nvector = 1\nsplit = 16", "8192 threads"),
    ],
)
def test_choices_that_no_gpu_can_launch_are_refused_for_cuda_only(task, completion, reason):
    assert reason in refusal(CUDA.parse(task, completion)).reason
    candidate(CPP.parse(task, completion))


def test_partial_sums_that_would_not_fit_are_refused():
    found = refusal(CUDA.parse(get_task(1, "kernelbench"), "c = acc\nsplit_k = 8"))
    assert "asks for 134217728 partial sums" in found.reason


@given(
    st.one_of(st.text(max_size=120), st.lists(st.sampled_from([*HONEST.split(), "\n", "```", "//", "z"])).map(" ".join))
)
def test_no_text_makes_parse_raise(text):
    for scaffold in (CPP, CUDA):
        assert isinstance(scaffold.parse(SWISH, text), Candidate | Refusal)


def test_python_is_no_language_of_templates():
    with pytest.raises(ValueError, match="C\\+\\+ or CUDA"):
        TemplateScaffold(Language.PYTHON)
