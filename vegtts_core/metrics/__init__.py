"""What a samples table says: fast_p, correctness, speedups, pass@k, equivalent K (sections 4.3 and 5.1).

Start with ``under(samples, protocol)``; everything else takes its view. Nothing here knows of policies, evaluators or
files: tables in, tables out.
"""

from vegtts_core.metrics.scaling import (
    Bound,
    EquivalentK,
    equivalent_k,
    equivalent_k_interval,
    pass_at_k,
    scaling_curve,
    subset_resampling,
)
from vegtts_core.metrics.shares import (
    GROUP,
    MINIMUM_EFFECT,
    By,
    correctness,
    sample_fast_p,
    summary,
    task_fast_p,
    under,
)

__all__ = [
    "GROUP",
    "MINIMUM_EFFECT",
    "Bound",
    "By",
    "EquivalentK",
    "correctness",
    "equivalent_k",
    "equivalent_k_interval",
    "pass_at_k",
    "sample_fast_p",
    "scaling_curve",
    "subset_resampling",
    "summary",
    "task_fast_p",
    "under",
]
