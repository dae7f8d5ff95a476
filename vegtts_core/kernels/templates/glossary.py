"""What the library functions in a task's source compute, in the notation of mathematics.

The ``template`` prompt explains the functions that its model calls: a policy is asked to write the kernel, not to
recall PyTorch's manual. The formulas are PyTorch's documented definitions, for training and evaluation tasks alike; on
the simplest tasks one may be an answer as it stands, as the source is in scaffold ``forward``. What is left to find
there are the constants that make it fast.
"""

from __future__ import annotations

import re

from vegtts_core.tasks import Task

_NORMALISED = "(x - mean) / sqrt(variance + 1e-5), the variance being the mean of (x - mean)^2"

#: A regular expression for the call -> what it returns.
_MEANINGS: dict[str, str] = {
    r"torch\.matmul\(|torch\.bmm\(|torch\.einsum\(": "the product's element = sum of A times B",
    r"\.unsqueeze\(1\) \*": "A.unsqueeze(1) * B = A of the row times B",
    r"torch\.abs\(": "abs(x) = |x|",
    r"torch\.mean\(": "mean = sum / n",
    r"torch\.cumsum\(": "cumsum(x) = the running sum of x",
    r"torch\.cumprod\(": "cumprod(x) = the running product of x",
    r"torch\.relu\(": "relu(x) = max(x, 0)",
    r"F\.leaky_relu\(": "leaky_relu(x) = x if x > 0, else negative_slope times x",
    r"torch\.sigmoid\(": "sigmoid(x) = 1 / (1 + exp(-x))",
    r"torch\.softmax\(": "softmax(x) = exp(x - max) / (sum of exp(x - max)), max over the row",
    r"F\.log_softmax\(": "log_softmax(x) = x - max - log(sum of exp(x - max)), max over the row",
    r"F\.gelu\(": "gelu(x) = 0.5 times x times (1 + erf(x / sqrt(2)))",
    r"torch\.selu\(": "selu(x) = 1.05070098 times (x if x > 0, else 1.67326324 times (exp(x) - 1))",
    r"F\.elu\(": "elu(x) = x if x > 0, else alpha times (exp(x) - 1)",
    r"F\.hardsigmoid\(": "hardsigmoid(x) = min(max(x / 6 + 0.5, 0), 1)",
    r"F\.softplus\(": "softplus(x) = log(1 + exp(x)), which is x itself where x > 20",
    r"F\.hardtanh\(": "hardtanh(x) = min(max(x, min_val), max_val)",
    r"nn\.BatchNorm2d\(": f"bn(x) = {_NORMALISED} over a channel, then times weight plus bias",
    r"nn\.InstanceNorm2d\(": f"inorm(x) = {_NORMALISED} over a channel of an image",
    r"nn\.GroupNorm\(": f"gn(x) = {_NORMALISED} over a group of channels, then times weight plus bias",
    r"nn\.LayerNorm\(": f"ln(x) = {_NORMALISED} over the normalised dimensions, then times weight plus bias",
    r'torch\.norm\(x, p="fro"\)': "norm(x) = sqrt(sum of x^2)",
    r"torch\.norm\(x, p=2": "norm(x) = sqrt(sum of x^2)",
    r"nn\.MaxPool": "maxpool(x) = the largest element of the window",
    r"nn\.AvgPool": "avg_pool(x) = sum over the window / elements of the window",
    r"nn\.Conv[123]d\(": "conv(x) = sum of x times w",
    r"torch\.triu\(": "triu(C) = C where column >= row, else 0",
    r"torch\.tril\(": "tril(C) = C where column <= row, else 0",
    r"F\.smooth_l1_loss\(": "smooth_l1_loss = mean of (0.5 times d^2 if |d| < 1, else |d| - 0.5), d being predictions "
    "- targets",
    r"F\.cross_entropy\(": "cross_entropy = mean over rows of max + log(sum of exp(predictions - max)) - target_score, "
    "max over the row's predictions",
    r"F\.kl_div\(": "kl_div(log(p), t), batchmean = sum of t times (log(t) - log(p)), / rows of predictions",
    r"nn\.TripletMarginLoss\(": "loss_fn = mean over rows of max(|a - p| - |a - n| + margin, 0), where |d| = sqrt(sum "
    "of (d + 1e-6)^2)",
}


def meanings(task: Task) -> list[str]:
    """One formula per function that ``task``'s source calls and that has one here, in the order of this list."""
    return [meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, task.source)]
