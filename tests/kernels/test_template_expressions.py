"""The grammar of holes: what it takes means in C what it means here, and what it refuses has a reason."""

import ctypes
import operator
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.kernels import cpp
from vegtts_core.kernels.templates.expressions import FUNCTIONS, Malformed, parse_expression
from vegtts_core.kernels.templates.types import ValueType

FLOAT, INT, BOOL = ValueType.FLOAT, ValueType.INT, ValueType.BOOL
NAMES = {"x": FLOAT, "y": FLOAT, "n": INT, "mask": BOOL}


def parsed(text, wanted=FLOAT):
    return parse_expression(text, wanted, NAMES)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x / (1.f + fabsf(x))", "(x / (1.0f + m_fabsf(x)))"),
        ("0.5*x*(1+erf(x))", "((0.5f * x) * (1 + m_erff(x)))"),
        ("x > 0 ? x : .01f * x", "((x > 0) ? x : (0.01f * x))"),
        ("x > 0 ? x : expf(x) - 1", "m_select((x > 0), x, (m_expf(x) - 1))"),
        ("max(x, 0.f)", "m_fmaxf(x, 0.0f)"),
        ("-x - -y", "((-x) - (-y))"),
        ("mask ? x : 0.f", "(mask ? x : 0.0f)"),
        ("x * mask", "(x * mask)"),
        ("(float)n / 2", "(((float)n) / 2)"),
        ("1e-5", "1e-05f"),
        ("!(x < y) && mask ? 1.f : 0.f", "(((!(x < y)) && mask) ? 1.0f : 0.0f)"),
        ("x < y ? 1.f : x > y ? 2.f : 3.f", "((x < y) ? 1.0f : ((x > y) ? 2.0f : 3.0f))"),
    ],
)
def test_c_expressions_become_float_code(text, code):
    assert parsed(text).code == code


def test_names_are_those_that_are_used_and_spacing_does_not_matter():
    assert parsed("x+y*x").names == {"x", "y"}
    assert parsed("fmaxf( x ,0.f )*( y )") == parsed("fmaxf(x,0.f)   * (y)")


@pytest.mark.parametrize(
    ("text", "wanted", "reason"),
    [
        ("z", FLOAT, "'z' is not a name of this hole"),
        ("system(x)", FLOAT, "'system' is not a function"),
        ("__builtin_trap()", FLOAT, "'__builtin_trap' is not a function"),
        ("x = y", FLOAT, "'=' is not part"),
        ("x[0]", FLOAT, "'\\[' is not part"),
        ("x; y", FLOAT, "';' is not part"),
        ("x, y", FLOAT, "',' was not expected"),
        ('"x"', FLOAT, "'\"' is not part"),
        ("*x", FLOAT, "a value is missing before '\\*'"),
        ("&x", FLOAT, "'&' is not part"),
        ("x++", FLOAT, "a value is missing at the end"),
        ("x +", FLOAT, "a value is missing at the end"),
        ("(x", FLOAT, "'\\)' is missing at the end"),
        ("x > 0", FLOAT, "a truth value where a float"),
        ("x", INT, "a float where an int"),
        ("n", BOOL, "an int where a truth value"),
        ("x ? 1.f : 0.f", FLOAT, "must be a truth value"),
        ("0.f < x < 1.f", BOOL, "do not chain"),
        ("x % 2", FLOAT, "takes ints"),
        ("n / 0", INT, "divides by zero"),
        ("n % (0)", INT, "divides by zero"),
        ("powf(x)", FLOAT, "takes 2 arguments, not 1"),
        ("expf(x > 0)", FLOAT, "takes numbers"),
        ("1.5x", FLOAT, "not a number of C"),
        ("1f", FLOAT, "not a number of C"),
        ("0x10", FLOAT, "not a number of C"),
        ("1e99", FLOAT, "too large for a float"),
        ("99999999999", FLOAT, "too large for an int"),
        ("", FLOAT, "empty"),
        ("x" + " + x" * 300, FLOAT, "at most 500"),
        ("(" * 60 + "x" + ")" * 60, FLOAT, "nested too deeply"),
        ("-" * 60 + "x", FLOAT, "nested too deeply"),
        ("x ? " * 50, FLOAT, "."),
        ("\u0663", FLOAT, "is not part"),
    ],
)
def test_what_is_refused_has_a_reason(text, wanted, reason):
    with pytest.raises(Malformed, match=reason):
        parsed(text, wanted)


@given(st.one_of(st.text(max_size=80), st.text(alphabet="xyn()+-*/%<>=!&|?:,. 0123efmask", max_size=80)))
def test_no_text_does_anything_but_parse_or_be_refused(text):
    try:
        found = parsed(text)
    except Malformed as reason:
        assert str(reason) and not str(reason).endswith(".")
        return
    assert parsed(found.text) == found  # the normalised spelling is one of the grammar's own
    allowed = set("xyn()+-*/%<>=!&|?:,. 0123456789efmask_") | set("".join(FUNCTIONS)) | set("INFINITY long select")
    assert set(found.code) <= allowed


# An example is an expression's text with its value, built together. Leaves are multiples of 1/4 and few are multiplied,
# so that all arithmetic is exact in float32 and here.
NUMBERS = st.integers(0, 8).map(lambda quarters: (f"{quarters / 4!r}f", quarters / 4))
NAMED = st.sampled_from(
    [("x", -1.5), ("y", 2.25), ("n", 7), ("(mask ? x : y)", -1.5), ("mask * y", 2.25), ("7 / 2", 3)]
)
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


def grown(part):
    comparison = st.tuples(part, st.sampled_from(sorted(OPERATORS)), part).map(
        lambda p: (f"{p[0][0]} {p[1]} {p[2][0]}", OPERATORS[p[1]](p[0][1], p[2][1]))
    )
    pair = st.tuples(part, part)
    return st.one_of(
        pair.map(lambda p: (f"({p[0][0]} + {p[1][0]})", p[0][1] + p[1][1])),
        pair.map(lambda p: (f"({p[0][0]} - {p[1][0]})", p[0][1] - p[1][1])),
        st.tuples(NUMBERS, part).map(lambda p: (f"{p[0][0]} * ({p[1][0]})", p[0][1] * p[1][1])),
        part.map(lambda p: (f"(-({p[0]}))", -p[1])),
        part.map(lambda p: (f"fabsf({p[0]})", abs(p[1]))),
        pair.map(lambda p: (f"fmaxf({p[0][0]}, {p[1][0]})", max(p[0][1], p[1][1]))),
        pair.map(lambda p: (f"min({p[0][0]}, {p[1][0]})", min(p[0][1], p[1][1]))),
        st.tuples(comparison, part, part).map(
            lambda p: (f"({p[0][0]} ? {p[1][0]} : {p[2][0]})", p[1][1] if p[0][1] else p[2][1])
        ),
        st.tuples(comparison, comparison, part, part).map(
            lambda p: (
                f"({p[0][0]} && !({p[1][0]}) ? {p[2][0]} : {p[3][0]})",
                p[2][1] if p[0][1] and not p[1][1] else p[3][1],
            )
        ),
    )


EXAMPLES = st.lists(st.recursive(st.one_of(NUMBERS, NAMED), grown, max_leaves=8), min_size=40, max_size=40)
SOURCE = """
enum class Word {{ sum, product, max, min, cached, streaming, exact, fast }};
constexpr int VECTOR = 1, ITEMS = 1;
constexpr Word MATH = Word::exact, STORE = Word::cached;
{common}
extern "C" void values(float x, float y, long long n, bool mask, float* out) {{
{lines}
}}
"""


@settings(max_examples=3, deadline=None)
@given(EXAMPLES)
def test_expressions_mean_in_c_what_they_say(examples):
    folder = resources.files("vegtts_core.kernels")
    common = "".join(
        (folder / name).read_text(encoding="utf-8") for name in ("preamble.cpp", "templates/sources/common.cpp")
    )
    lines = "\n".join(f"out[{place}] = {parsed(text).code};" for place, (text, _) in enumerate(examples))
    library = cpp.load(SOURCE.format(common=common, lines=lines))
    out = (ctypes.c_float * len(examples))()
    library.values.argtypes = [ctypes.c_float, ctypes.c_float, ctypes.c_longlong, ctypes.c_bool, ctypes.c_void_p]
    library.values(-1.5, 2.25, 7, True, out)
    assert list(out) == [value for _, value in examples]
