import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.scaffolds.extract import MAX_CHARACTERS, MAX_SEARCHED, Forward, extract_forward
from vegtts_core.scaffolds.types import Refusal, RefusalKind

ARGUMENTS = ("A", "B")


def body_of(completion: str) -> str:
    found = extract_forward(completion, ARGUMENTS)
    assert isinstance(found, Forward), found
    return "\n".join(ast.unparse(node) for node in found.body)


@pytest.mark.parametrize(
    "completion",
    [
        "        return A @ B",
        "return A @ B",
        "\n\n  return A @ B\n",
        "        return A @ B\n```\nThis uses the matmul operator.",
        "        return A @ B\n\nThis uses the matmul operator.",
        "        return A @ B  # fast",
        "Here is a faster version:\n    return A @ B",
        "Sure! Here it is:\n```python\nreturn A @ B\n```\nHope it helps!",
        "```python\ndef forward(self, A, B):\n    return A @ B\n```",
        "```\n    def forward(self, A, B):\n        return A @ B\n```",
        "Some words\n```python\nimport torch\nclass ModelNew(nn.Module):\n    def __init__(self):\n        pass\n\n"
        "    def forward(self, A: torch.Tensor, B) -> torch.Tensor:\n        'Multiply.'\n        return A @ B\n```",
        "class ModelNew(nn.Module):\n    def forward(self, A, B):\n        return A @ B\n\nThat is all, folks!",
        "    '''Multiplies.'''\n    return A @ B",
        "\treturn A @ B",
    ],
)
def test_one_body_in_many_wrappings(completion: str) -> None:
    assert body_of(completion) == "return A @ B"


def test_several_lines_keep_their_order() -> None:
    completion = "x = A * 2\n        y = x + B\n\n        return y\n```"
    assert body_of(completion) == "x = A * 2\ny = x + B\nreturn y"


def test_lines_after_the_body_of_another_method_are_dropped() -> None:
    assert body_of("        return A @ B\n\n    def other(self):\n        return 1") == "return A @ B"


def test_a_multi_line_call() -> None:
    assert body_of("        return torch.addmm(\n            A,\n            B, B)") == "return torch.addmm(A, B, B)"


def test_a_function_with_its_own_argument_names() -> None:
    found = extract_forward("def forward(self, left, right):\n    return left @ right", ARGUMENTS)
    assert isinstance(found, Forward)
    assert found.arguments == ("left", "right")


@pytest.mark.parametrize(
    ("completion", "kind"),
    [
        ("", RefusalKind.EMPTY),
        ("   \n\n", RefusalKind.EMPTY),
        ("I cannot do that.", RefusalKind.EMPTY),
        ("        pass", RefusalKind.EMPTY),
        ("def forward(self, A, B):\n    A @ B", RefusalKind.EMPTY),
        ("        return A @", RefusalKind.SYNTAX),
        ("return (A @ B", RefusalKind.SYNTAX),
        ("def forward(A, B):\n    return A @ B", RefusalKind.SYNTAX),
        ("def forward(self, *args):\n    return args[0]", RefusalKind.SYNTAX),
        ("class M:\n    @staticmethod\n    def forward(self, A, B):\n        return A", RefusalKind.FORBIDDEN),
        ("return A\0", RefusalKind.SYNTAX),
        ("return A" + " " * MAX_CHARACTERS, RefusalKind.TOO_LONG),
        ("return " + "-" * 7000 + "A", RefusalKind.SYNTAX),
    ],
)
def test_refusals_have_a_kind_and_a_sentence(completion: str, kind: RefusalKind) -> None:
    refusal = extract_forward(completion, ARGUMENTS)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.kind == kind
    assert refusal.reason.endswith(".")


@pytest.mark.parametrize(
    ("completion", "kind", "most"),
    [
        ("\n".join([f"x = {'-~' * 15}1"] * 199), RefusalKind.EMPTY, 10),
        ("\n".join(["x = 'return', -~-~-~-~-~-~-~1"] * 199), RefusalKind.EMPTY, 250),
        ("\n".join(["x = 'return', -~-~-~-~-~-~-~1"] * 199 + [")"]), RefusalKind.TOO_LONG, 250),
        ("\n".join(["x = f('return', -~-~-~-~-~-~-~1,"] * 199), RefusalKind.TOO_LONG, 250),
        ("```\n".join(["x = f('return',\n" * 4] * 39), RefusalKind.SYNTAX, 1500),
    ],
)
def test_no_completion_is_parsed_for_long(
    completion: str, kind: RefusalKind, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    parse = ast.parse

    def counted(source: str, *more: Any) -> Any:
        parsed.append(len(source))
        return parse(source, *more)

    monkeypatch.setattr(ast, "parse", counted)
    refusal = extract_forward(completion, ARGUMENTS)
    assert isinstance(refusal, Refusal) and refusal.kind is kind, refusal
    assert len(parsed) <= most and sum(parsed) <= MAX_SEARCHED + 40 * MAX_CHARACTERS


def test_a_body_among_much_chatter_is_found() -> None:
    chatter = "\n".join(
        ["if it is faster, then it is better, and for every matrix it is", "return to this later, (or"] * 5
    )
    assert body_of(f"{chatter}\n    C = A @ B\n    return C\n{chatter}") == "C = A @ B\nreturn C"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text("`defrwant x=()[]:.,@\n\t\"'\\#{}*+-0", max_size=200))
def test_any_text_is_read_or_refused(completion: str) -> None:
    found = extract_forward(completion, ARGUMENTS)
    assert isinstance(found, Forward | Refusal)
    if isinstance(found, Forward):
        assert found.body
