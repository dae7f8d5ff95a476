"""Scaled dot-product attention (97)."""

from __future__ import annotations

from vegtts_core.tasks.domains import signed
from vegtts_core.tasks.problem import Argument, Problem, sized
from vegtts_core.tasks.types import Family

# Scores stay within a few dozen: beyond that, fp32 rounding of the scores themselves decides the softmax.
_MODERATE = signed(3.0)
_DIMS = "batch_size, num_heads, sequence_length, embedding_dimension"

PROBLEMS = (
    Problem(
        id=97,
        name="ScaledDotProductAttention",
        family=Family.ATTENTION,
        doc="Scaled dot-product attention without a mask.",
        forward="Q: torch.Tensor, K: torch.Tensor, V: torch.Tensor",
        body="return F.scaled_dot_product_attention(Q, K, V)",
        arguments=tuple(Argument(name, _DIMS, _MODERATE) for name in "QKV"),
        constants=sized(
            batch_size=(32, 4), num_heads=(32, 4), sequence_length=(512, 192), embedding_dimension=(1024, 384)
        ),
        note="On U[0, 1) the softmax is nearly flat and the answer nearly the mean of V; here the scores differ.",
    ),
)
