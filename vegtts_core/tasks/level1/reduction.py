"""Reductions over one dimension (47 to 49, 51 to 53).

The reduced dimension is not the last one: at the benchmark's size neighbours along it lie 4095 numbers apart.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import SIGNED_WITH_TIES, signed
from vegtts_core.tasks.problem import Argument, Problem, both, sized
from vegtts_core.tasks.types import AnswerKind, Domain, Family


def _reduction(
    id: int,
    name: str,
    doc: str,
    body: str,
    note: str,
    domain: Domain = SIGNED_WITH_TIES,
    answer: AnswerKind = AnswerKind.VALUES,
) -> Problem:
    return Problem(
        id=id,
        name=name,
        family=Family.REDUCTION,
        doc=doc,
        init="dim: int",
        build=("self.dim = dim",),
        forward="x: torch.Tensor",
        body=body,
        arguments=(Argument("x", "batch_size, dim1, dim2", domain),),
        constants=sized(batch_size=(128, 20), dim1=(4096, 800), dim2=(4095, 799)) | both(reduce_dim=1),
        init_inputs=("reduce_dim",),
        note=note,
        answer=answer,
        dim=1,
    )


_TIES = "Where several inputs are equally extreme, the index of any of them is right; the answer is int64."

PROBLEMS = (
    _reduction(
        47,
        "Sum_reduction_over_a_dimension",
        "Sums over one dimension and keeps it with size 1.",
        "return torch.sum(x, dim=self.dim, keepdim=True)",
        "Sums may cancel; their error is held against the sum of magnitudes.",
        signed(),
    ),
    _reduction(
        48,
        "Mean_reduction_over_a_dimension",
        "Takes the mean over one dimension.",
        "return torch.mean(x, dim=self.dim)",
        "Sums may cancel; the error is held against the mean of magnitudes.",
        signed(),
    ),
    _reduction(
        49,
        "Max_reduction_over_a_dimension",
        "Takes the maximum over one dimension.",
        "return torch.max(x, dim=self.dim)[0]",
        "Whole slices may be negative: a maximum that starts at 0 is wrong.",
    ),
    _reduction(
        51,
        "Argmax_over_a_dimension",
        "Finds the index of the maximum over one dimension.",
        "return torch.argmax(x, dim=self.dim)",
        _TIES,
        answer=AnswerKind.INDEX_OF_MAXIMUM,
    ),
    _reduction(
        52,
        "Argmin_over_a_dimension",
        "Finds the index of the minimum over one dimension.",
        "return torch.argmin(x, dim=self.dim)",
        _TIES,
        answer=AnswerKind.INDEX_OF_MINIMUM,
    ),
    _reduction(
        53,
        "Min_reduction_over_a_dimension",
        "Takes the minimum over one dimension.",
        "return torch.min(x, dim=self.dim)[0]",
        "Whole slices may be positive or negative: a minimum that starts at a constant is wrong.",
    ),
)
