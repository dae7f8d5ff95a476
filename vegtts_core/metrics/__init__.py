"""What a samples table says: fast_p, correctness, speedups, pass@k, equivalent K (sections 4.3 and 5.1).

Start with ``under(samples, protocol)``; shares and curves take its view. What looks at an adaptation run takes the
samples table and a protocol, or a ``Trajectory`` made of them. Nothing here knows of policies, evaluators or files:
tables in, tables out.
"""

from vegtts_core.metrics.adaptation import Trajectory, trajectory
from vegtts_core.metrics.checkpoints import EarlyStop, best_of_adaptation, best_steps, early_stopping, per_task_oracle
from vegtts_core.metrics.diversity import diversity_by_step, entropy, group_diversity, miller_madow
from vegtts_core.metrics.optimism import Redrawn, split_half_optimism, step_optimum
from vegtts_core.metrics.probe import Nll, Quarter, join_probe, probe_correlations, probe_nll, probe_quarter
from vegtts_core.metrics.probe_change import Change, Unit, rho_change
from vegtts_core.metrics.regimes import Regimes, classify_regimes, compare_regimes, informative
from vegtts_core.metrics.reward_density import density_and_optimum, density_correlation, reward_densities
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
from vegtts_core.metrics.transfer import Transfer, measure_transfer

__all__ = [
    "GROUP",
    "MINIMUM_EFFECT",
    "Bound",
    "By",
    "Change",
    "EarlyStop",
    "EquivalentK",
    "Nll",
    "Quarter",
    "Redrawn",
    "Regimes",
    "Trajectory",
    "Transfer",
    "Unit",
    "best_of_adaptation",
    "best_steps",
    "classify_regimes",
    "compare_regimes",
    "correctness",
    "density_and_optimum",
    "density_correlation",
    "diversity_by_step",
    "early_stopping",
    "entropy",
    "equivalent_k",
    "equivalent_k_interval",
    "group_diversity",
    "informative",
    "join_probe",
    "measure_transfer",
    "miller_madow",
    "pass_at_k",
    "per_task_oracle",
    "probe_correlations",
    "probe_nll",
    "probe_quarter",
    "reward_densities",
    "rho_change",
    "sample_fast_p",
    "scaling_curve",
    "split_half_optimism",
    "step_optimum",
    "subset_resampling",
    "summary",
    "task_fast_p",
    "trajectory",
    "under",
]
