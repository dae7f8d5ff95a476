"""Other right ways to write what a training task computes, in scaffold ``template``.

A policy that has seen one answer per task learns a table; one that has seen how a clamp, an absolute value or a stable
logarithm may be written has words for tasks that it has not seen. Only expressions stand here, no tuning constants.
Like every demonstration they are judged before they count.
"""

from __future__ import annotations

from vegtts_core.tasks import Task

_SOFTMAX = """element = x
combine = max
first = total
element2 = expf(x - first)
combine2 = sum
second = total
"""
_NORM = "element = {}\ncombine = sum\nfirst = {}\ny = {}"
_TOTAL = "element = {}\ncombine = {}\nfirst = {}"

_OTHERS: dict[int, tuple[str, ...]] = {
    19: ("y = fmaxf(x, 0.f)", "y = fmaxf(0.f, x)", "y = 0.5f * (x + fabsf(x))", "y = x < 0.f ? 0.f : x"),
    20: (
        "y = fmaxf(x, 0.f) + negative_slope * fminf(x, 0.f)",
        "y = x < 0.f ? negative_slope * x : x",
        "y = fmaxf(x, negative_slope * x)",
    ),
    21: ("y = 0.5f * tanhf(0.5f * x) + 0.5f", "y = 0.5f + 0.5f * tanhf(x / 2.f)", "y = 1.f / (expf(-x) + 1.f)"),
    25: ("y = x * (0.5f * tanhf(0.5f * x) + 0.5f)", "y = x * (1.f / (1.f + expf(-x)))", "y = x / (expf(-x) + 1.f)"),
    26: ("y = 0.5f * x * erfcf(-x * 0.70710678f)", "y = x * (0.5f + 0.5f * erff(0.70710678f * x))"),
    27: (
        "y = x > 0.f ? 1.05070098f * x : 1.75809934f * expm1f(x)",
        "y = 1.05070098f * (fmaxf(x, 0.f) + fminf(1.67326324f * expm1f(x), 0.f))",
    ),
    31: (
        "y = fmaxf(x, 0.f) + fminf(alpha * expm1f(x), 0.f)",
        "y = x < 0.f ? alpha * expm1f(x) : x",
        "y = fmaxf(x, 0.f) + alpha * expm1f(fminf(x, 0.f))",
    ),
    88: (
        "y = 0.5f * x + 0.5f * x * tanhf(0.7978845608f * (x + 0.044715f * powf(x, 3.f)))",
        "y = x * (1.f - 1.f / (1.f + expf(1.5957691216f * (x + 0.044715f * x * x * x))))",
    ),
    23: (_SOFTMAX + "y = expf(x - first - logf(second))", _SOFTMAX + "y = (1.f / second) * expf(x - first)"),
    24: (_SOFTMAX + "y = (x - first) - logf(second)", _SOFTMAX + "y = x - (first + logf(second))"),
    37: (
        _NORM.format("x * x", "rsqrtf(total)", "x * first"),
        _NORM.format("x * x", "sqrtf(total)", "x * (1.f / first)"),
    ),
    38: (_NORM.format("fmaxf(x, -x)", "total / n", "x / first"), _NORM.format("fabsf(x)", "n / total", "x * first")),
    39: (_NORM.format("x * x", "rsqrtf(total)", "x * first"), _NORM.format("x * x", "total", "x / sqrtf(first)")),
    48: (_TOTAL.format("x", "sum", "total * (1.f / n)"),),
    51: ("better = best < element", "better = element - best > 0.f"),
    52: ("better = best > element", "better = element - best < 0.f"),
    93: ("element = x * mask\ncombine = sum",),
    94: (
        "element = powf(predictions - targets, 2.f)\ncombine = sum\nfirst = total / n\nvalue = first",
        "element = fabsf(predictions - targets) * fabsf(targets - predictions)\ncombine = sum\nfirst = total / n\n"
        "value = first",
    ),
    100: (
        "element = fmaxf(0.f, 1.f - targets * predictions)\ncombine = sum\nvalue = first\nresult = total / rows / n",
        "element = 1.f - predictions * targets > 0.f ? 1.f - predictions * targets : 0.f\ncombine = sum\n"
        "value = first\nresult = total / (rows * n)",
    ),
}


def paraphrases(task: Task) -> tuple[str, ...]:
    """Fillings of ``task``'s template besides the honest one, one ``name = value`` line each; none for most tasks."""
    return _OTHERS.get(task.id, ()) if task.level == 1 else ()
