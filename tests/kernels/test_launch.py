"""Launch lines: the arithmetic against Python's own, the forms, the limits, the refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.kernels.arithmetic import Malformed, evaluate
from vegtts_core.kernels.launch import parse_launch
from vegtts_core.kernels.types import Launch

SIZES = {"out_n": 1000, "out_0": 25, "out_1": 40, "kernel_size": 3}


def expressions() -> st.SearchStrategy[str]:
    leaves = st.integers(0, 10**6).map(str) | st.sampled_from(sorted(SIZES))
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", " / "]), inner).map("".join)
            | inner.map("({})".format)
            | inner.map("-{}".format)
            | st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})")
        ),
        max_leaves=8,
    )


@given(expressions())
def test_arithmetic_is_pythons(text: str) -> None:
    try:
        expected = eval(text.replace(" / ", "//"), {"__builtins__": {}, "min": min, "max": max}, dict(SIZES))
    except ZeroDivisionError:
        with pytest.raises(Malformed, match="divides by zero"):
            evaluate(text, SIZES)
        return
    try:
        assert evaluate(text, SIZES) == expected
    except Malformed as error:
        assert "too large" in str(error)


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_malformed(text: str) -> None:
    try:
        assert isinstance(evaluate(text, SIZES), int)
    except Malformed as error:
        assert str(error) and not str(error).endswith(".")


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("grid=(cdiv(out_n, 256)), block=(256)", Launch((4, 1, 1), (256, 1, 1), 0)),
        ("grid=cdiv(out_1, 32), block=32, shared=4*32", Launch((2, 1, 1), (32, 1, 1), 128)),
        (" grid = ((out_1 + 31) / 32, out_0), block = (32, 8), shared = 0;", Launch((2, 25, 1), (32, 8, 1), 0)),
        ("tile=16, grid=(cdiv(out_1, tile), 2, 3), block=(tile, tile)", Launch((3, 2, 3), (16, 16, 1), 0)),
        ("grid=(max(out_0, 7) - 1,), block=(min(out_n, 1024),)", Launch((24, 1, 1), (1000, 1, 1), 0)),
    ],
)
def test_launches(text: str, launch: Launch) -> None:
    assert parse_launch(text, SIZES) == launch


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("grid=1", "'block' is missing"),
        ("grid=1, block=1024*2", "block.x = 2048 is not between 1 and 1024"),
        ("grid=1, block=(32, 64)", "more than 1024 threads"),
        ("grid=0, block=1", "grid.x = 0 is not between 1"),
        ("grid=(1, 65536), block=1", "grid.y = 65536"),
        ("grid=(1,1,1,1), block=1", "4 numbers"),
        ("grid=1, block=1, shared=1<<20", "'<' is not part"),
        ("grid=1, block=1, shared=1000000", "shared = 1000000"),
        ("grid=1, block=1, shared=-1", "shared = -1"),
        ("grid=N, block=1", "'N' is not a size of this task"),
        ("grid=1, block=1, grid=2", "'grid' is given twice"),
        ("out_n=1, grid=1, block=1", "'out_n' is a name of the task"),
        ("grid=__import__('os'), block=1", "is not part of the arithmetic"),
        ("grid=open(1, 2), block=1", "'open' is not a size"),
        ("grid=(1, block=1", "parentheses do not match"),
        ("grid=cdiv(1 2), block=1", "',' is missing before '2'"),
        ("grid=1 2, block=1", "was not expected"),
        ("grid=9**9, block=1", "a value is missing"),
        ("grid=1/(out_0 - 25), block=1", "divides by zero"),
        ("256, 256", "not of the form name=value"),
        ("grid=" + "(" * 80 + "1" + ")" * 80 + ", block=1", "nested too deeply"),
        ("grid=" + "9" * 300 + ", block=1", "too large"),
        ("grid=" + "1+" * 300 + "1, block=1", "longer than"),
    ],
)
def test_refusals_say_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_launch(text, SIZES)
    assert reason in str(caught.value)
