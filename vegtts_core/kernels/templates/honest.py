"""An honest filling for every covered task: the positive set of the tests, and the answers of few-shot prompts.

Prompts show those of training tasks only (see `vegtts_core.kernels.templates.scaffold`).
"""

from __future__ import annotations

from vegtts_core.errors import UserError
from vegtts_core.tasks import Task

_VARIANCE = """element = x
combine = sum
first = total / n
element2 = (x - first) * (x - first)
combine2 = sum
second = total / n
"""
_SOFTMAX = """element = {0}
combine = max
first = total
element2 = expf({0} - first)
combine2 = sum
second = total
"""
_MEAN_OF_SQUARES = "element = {}\ncombine = sum\nfirst = total / n\nvalue = first"
_GELU = "y = 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)))"
_TOTAL = "element = x\ncombine = {}\nfirst = {}"
_MAX_POOL = "element = x\ncombine = max\ny = total"
_AVERAGE_POOL = "element = x\ncombine = sum\ny = total / taps"
_DEPTHWISE = "element = x * w\ncombine = sum\ny = total"
_SQUARE = "tile_m = 128\ntile_n = 128\ntile_k = 16\nthread_m = 8\nthread_n = 4"
_TILES = "tile_m = 64\ntile_n = 64\ntile_k = 64\nthread_m = 8\nthread_n = 2"

_FILLINGS: dict[str, str] = {
    "5": "y = A * s\nstore = streaming",
    "12": "y = A * B\nstore = streaming",
    "19": "y = x > 0.f ? x : 0.f\nstore = streaming",
    "20": "y = x > 0.f ? x : negative_slope * x\nstore = streaming",
    "21": "y = 1.f / (1.f + expf(-x))\nstore = streaming",
    "22": "y = tanhf(x)\nstore = streaming",
    "25": "y = x / (1.f + expf(-x))\nstore = streaming",
    "26": "y = 0.5f * x * (1.f + erff(x * 0.70710678f))\nstore = streaming",
    "27": "y = 1.05070098f * (x > 0.f ? x : 1.67326324f * expm1f(x))\nstore = streaming",
    "28": "y = fminf(fmaxf(x / 6.f + 0.5f, 0.f), 1.f)\nstore = streaming",
    "29": "y = x > 20.f ? x : log1pf(expf(x))\nstore = streaming",
    "30": "y = x / (1.f + fabsf(x))\nstore = streaming",
    "31": "y = x > 0.f ? x : alpha * expm1f(x)\nstore = streaming",
    "32": "y = fminf(fmaxf(x, -1.f), 1.f)\nstore = streaming",
    "88": f"{_GELU}\nstore = streaming",
    **dict.fromkeys(("1", "2", "7", "8", "9", "10", "11", "13", "16", "17", "18", "3", "87"), f"c = acc\n{_TILES}"),
    "6": f"c = acc\n{_TILES}\nsplit_k = 16",
    "14": f"c = m <= n ? acc : 0.f\nk_begin = m_first\nk_end = n_last + 1\n{_TILES}",
    "15": f"c = m >= n ? acc : 0.f\nk_begin = n_first\nk_end = m_last + 1\n{_TILES}",
    "4": "element = A * B\ncombine = sum\nvalue = first\nvector = 4\nitems = 4",
    "23": f"{_SOFTMAX.format('x')}y = expf(x - first) / second",
    "24": f"{_SOFTMAX.format('x')}y = x - first - logf(second)",
    **dict.fromkeys(("33", "35", "40"), f"{_VARIANCE}y = (x - first) * rsqrtf(second + 1e-5f) * weight + bias"),
    "34": f"{_VARIANCE}y = (x - first) * rsqrtf(second + 1e-5f)",
    "36": "element = x * x\ncombine = sum\nfirst = sqrtf(total / n + eps)\ny = x / first",
    "37": "element = x * x\ncombine = sum\nfirst = sqrtf(total)\ny = x / first\nstore = streaming",
    "38": "element = fabsf(x)\ncombine = sum\nfirst = total / n\ny = x / first",
    "39": "element = x * x\ncombine = sum\nfirst = sqrtf(total)\ny = x / first",
    **dict.fromkeys(("41", "42", "43"), _MAX_POOL),
    **dict.fromkeys(("44", "45", "46"), _AVERAGE_POOL),
    **dict.fromkeys(("82", "83", "84", "85"), _DEPTHWISE),
    "47": _TOTAL.format("sum", "total"),
    "48": _TOTAL.format("sum", "total / n"),
    "49": _TOTAL.format("max", "total"),
    "53": _TOTAL.format("min", "total"),
    "51": "better = element > best",
    "52": "better = element < best",
    "89": "element = x\ncombine = sum",
    "90": "element = x\ncombine = product",
    "91": "element = x\ncombine = sum\norder = backward",
    "92": "element = x\ncombine = sum\ninclude = exclusive",
    "93": "element = mask ? x : 0.f\ncombine = sum",
    "94": _MEAN_OF_SQUARES.format("(predictions - targets) * (predictions - targets)"),
    "96": _MEAN_OF_SQUARES.format(
        "fabsf(predictions - targets) < 1.f ? 0.5f * (predictions - targets) * (predictions - targets) "
        ": fabsf(predictions - targets) - 0.5f"
    ),
    "98": "element = targets * (logf(targets) - logf(predictions))\ncombine = sum\n"
    "first = total / predictions_0\nvalue = first",
    "95": f"{_SOFTMAX.format('predictions')}value = first + logf(second) - target_score\nresult = total / rows",
    "99": "element = (anchor - positive + 1e-6f) * (anchor - positive + 1e-6f)\ncombine = sum\nfirst = sqrtf(total)\n"
    "element2 = (anchor - negative + 1e-6f) * (anchor - negative + 1e-6f)\ncombine2 = sum\nsecond = sqrtf(total)\n"
    "value = fmaxf(first - second + margin, 0.f)\nresult = total / rows",
    "100": "element = fmaxf(1.f - predictions * targets, 0.f)\ncombine = sum\nvalue = first\nresult = total / rows / n",
}
_FILLINGS["12-diag"] = _FILLINGS["12"]


def honest_filling(task: Task) -> str:
    """Lines that fill the task's template rightly. Raises UserError for a task without a template."""
    key = task.key.removeprefix("level1/")
    if key not in _FILLINGS:
        raise UserError(f"Task {task.key} has no kernel template: use the kernel scaffold.")
    return _FILLINGS[key]
