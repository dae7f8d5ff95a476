"""Normalisations and softmax (23, 24, 33 to 40): each output needs a statistic of many inputs.

KernelBench never calls ``eval()``, so BatchNorm normalises with the batch's own statistics and moves its running ones
as a side effect; only the returned tensor is part of the answer.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import logits, signed
from vegtts_core.tasks.problem import Argument, Problem, both, sized
from vegtts_core.tasks.types import Domain, Family

_SIGNED = signed()


def _norm(
    id: int,
    name: str,
    doc: str,
    body: str,
    note: str,
    dims: str,
    constants: dict,
    domain: Domain = _SIGNED,
    init: str = "",
    build: tuple[str, ...] = (),
    init_inputs: tuple[str, ...] = (),
    weights: bool = False,
) -> Problem:
    return Problem(
        id=id,
        name=name,
        family=Family.NORMALIZATION,
        doc=doc,
        init=init,
        build=build,
        forward="x: torch.Tensor",
        body=body,
        arguments=(Argument("x", dims, domain),),
        constants=constants,
        init_inputs=init_inputs,
        weights=weights,
        note=note,
    )


_ROWS = "batch_size, dim"
_IMAGE = "batch_size, features, dim1, dim2"
_softmax_sizes = sized(batch_size=(4096, 256), dim=(393216, 24576))
_image_sizes = sized(
    batch_size=(112, 7), features=(64, 64), dim1=(512, 128), dim2=(512, 128)
)  # fmt: skip
_odd_rows = sized(batch_size=(32768, 1984), dim=(65535, 3967))

PROBLEMS = (
    _norm(
        23,
        "Softmax",
        "Applies softmax over the second dimension.",
        "return torch.softmax(x, dim=1)",
        "Rows far from 0 overflow unless their maximum is subtracted first.",
        _ROWS,
        _softmax_sizes,
        domain=logits(),
    ),
    _norm(
        24,
        "LogSoftmax",
        "Applies log-softmax over one dimension.",
        "return F.log_softmax(x, dim=self.dim)",
        "Rows far from 0 overflow unless their maximum is subtracted first; the log of a rounded softmax is -inf.",
        _ROWS,
        _softmax_sizes,
        domain=logits(),
        init="dim: int = 1",
        build=("self.dim = dim",),
    ),
    _norm(
        33,
        "BatchNorm",
        "Applies 2D batch normalisation.",
        "return self.bn(x)",
        "The statistics are the batch's own (training mode) and the module's weight and bias count; running statistics "
        "are a side effect and not part of the answer.",
        _IMAGE,
        sized(batch_size=(64, 4), features=(64, 64), dim1=(512, 128), dim2=(512, 128)),
        init="num_features: int",
        build=("self.bn = nn.BatchNorm2d(num_features=num_features)",),
        init_inputs=("features",),
        weights=True,
    ),
    _norm(
        34,
        "InstanceNorm",
        "Applies 2D instance normalisation.",
        "return self.inorm(x)",
        "Each sample's channel has its own mean and biased variance; there are no weights.",
        _IMAGE,
        _image_sizes,
        init="num_features: int",
        build=("self.inorm = nn.InstanceNorm2d(num_features=num_features)",),
        init_inputs=("features",),
    ),
    _norm(
        35,
        "GroupNorm",
        "Applies group normalisation.",
        "return self.gn(x)",
        "Each sample's group of channels has its own mean and variance; the module's weight and bias count.",
        _IMAGE,
        _image_sizes | both(num_groups=8),
        init="num_features: int, num_groups: int",
        build=("self.gn = nn.GroupNorm(num_groups=num_groups, num_channels=num_features)",),
        init_inputs=("features", "num_groups"),
        weights=True,
    ),
    _norm(
        36,
        "RMSNorm",
        "Divides by the root of the mean square over the features (second dimension).",
        "rms = torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + self.eps)\nreturn x / rms",
        "The mean square is over the features at each position, and eps keeps an all-zero position finite.",
        _IMAGE,
        _image_sizes,
        init="num_features: int, eps: float = 1e-5",
        build=("self.num_features = num_features", "self.eps = eps"),
        init_inputs=("features",),
    ),
    _norm(
        37,
        "FrobeniusNorm",
        "Divides a tensor by its Frobenius norm.",
        'norm = torch.norm(x, p="fro")\nreturn x / norm',
        "One norm for the whole tensor, which is never all zero.",
        _IMAGE,
        _image_sizes,
    ),
    _norm(
        38,
        "L1Norm",
        "Divides each row by the mean of its absolute values.",
        "return x / torch.mean(torch.abs(x), dim=1, keepdim=True)",
        "A mean without absolute values is right on U[0, 1) only; no row is all zero.",
        _ROWS,
        _odd_rows,
    ),
    _norm(
        39,
        "L2Norm",
        "Divides each row by its Euclidean norm.",
        "return x / torch.norm(x, p=2, dim=1, keepdim=True)",
        "No row is all zero.",
        _ROWS,
        _odd_rows,
    ),
    _norm(
        40,
        "LayerNorm",
        "Applies layer normalisation over all dimensions but the first.",
        "return self.ln(x)",
        "Each sample has its own mean and variance; the module's weight and bias, one per element, count.",
        _IMAGE,
        sized(batch_size=(16, 8), features=(64, 64), dim1=(256, 112), dim2=(256, 112)),
        init="normalized_shape: tuple",
        build=("self.ln = nn.LayerNorm(normalized_shape=normalized_shape)",),
        init_inputs=("(features, dim1, dim2)",),
        weights=True,
    ),
)
