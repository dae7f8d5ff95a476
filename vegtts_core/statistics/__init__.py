"""Effect sizes, tests, correlations and intervals over the samples table.

These functions know nothing of policies, evaluators or files: arrays or a protocol's view
(``vegtts_core.metrics.under``) in, numbers with their n out. Degenerate input (nothing, one task, constants) gives NaN
together with n; it never raises and never warns, so that a chapter says "n = 1, no interval" where nothing else can be
said.
"""

from vegtts_core.statistics.bootstrap import Interval, Population, cluster_weights, mean_interval, weighted_means
from vegtts_core.statistics.correlation import Correlation, length_control, spearman, within_task_spearman
from vegtts_core.statistics.paired import Alternative, Test, cohens_h, sign_test, wilcoxon_log_ratio, wilson
from vegtts_core.statistics.power import (
    Effect,
    count_power,
    equality_power,
    least_spread,
    mean_effect,
    mean_power,
    of_interval,
    t_interval,
    tasks_needed,
)
from vegtts_core.statistics.quartiles import quartile_contrast, surprisal_quartiles

__all__ = [
    "Alternative",
    "Correlation",
    "Effect",
    "Interval",
    "Population",
    "Test",
    "cluster_weights",
    "cohens_h",
    "count_power",
    "equality_power",
    "least_spread",
    "length_control",
    "mean_effect",
    "mean_interval",
    "mean_power",
    "of_interval",
    "quartile_contrast",
    "sign_test",
    "spearman",
    "surprisal_quartiles",
    "t_interval",
    "tasks_needed",
    "weighted_means",
    "wilcoxon_log_ratio",
    "wilson",
    "within_task_spearman",
]
