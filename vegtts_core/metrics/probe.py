"""Fixed samples scored by every checkpoint: does adaptation turn confidence against speed? (section 5.3b)

A probe holds the samples and their speedups fixed and lets only the scoring model vary. NLL is minus log p of a
completion, in nats: the mean per token, or the sum, which grows with length (the paper's 6.7 looks like a sum, and does
not say). rho(NLL, speedup) < 0 means that more surprising samples are slower, so that confidence ranks them rightly.
The paper calls a deepening negative rho anti-calibration; it is the reverse. And its p = 9.8e-17 for the "bottom
quartile" at rho = -0.442 is that of all 320 samples: a quarter of them would give 4e-5. Nothing here computes an NLL.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum

import numpy as np
import pandas as pd

from vegtts_core.metrics.shares import under
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, mean_interval
from vegtts_core.statistics.correlation import Correlation, spearman, within_task_spearman

#: Mean NLLs (nats per token) closer than this are one: copies of a completion differ by float32 rounding.
TIE = 1e-5


class Nll(StrEnum):
    """Which NLL is ranked. Values are columns of the probe."""

    MEAN = "nll_mean"
    """Per token (default): surprisal."""
    SUM = "nll_sum"
    """Of the whole completion: confounded with length."""


class Quarter(StrEnum):
    """What "bottom quartile" may mean; the paper does not say. Each is one fixed set of samples for all steps."""

    ALL = "all"
    SLOWEST = "slowest quarter"
    """Lowest speedups."""
    MOST_SURPRISING = "most surprising quarter"
    """Highest NLL at the first step: where surprisal-guided selection chooses."""
    LEAST_SURPRISING = "least surprising quarter"
    """Lowest NLL at the first step: the bottom of the NLLs, read literally."""


def join_probe(
    nll: pd.DataFrame, samples: pd.DataFrame, protocol: str, incorrect_as_zero: bool = False
) -> pd.DataFrame:
    """The NLLs beside what is known of their samples: the probe that the other functions take.

    ``nll``: one row per (sample, checkpoint): ``row`` (position in ``samples``, int), ``step`` (int), ``nll_mean``
    (nats per token), ``nll_sum`` (nats). ``samples``: the fixed samples, with the schema's columns.
    Returns ``row, step, task, seed, fingerprint, correct, speedup, nll_mean, nll_sum``, sorted by step and row. The
    speedup of an incorrect sample is NaN, which leaves it out, or with ``incorrect_as_zero`` 0, its reward: then rho
    also rewards telling correct from incorrect (the paper's n = 320 is every sample of its run, so it must be either
    that or a run without failures). Raises ValueError for a missing column, an unknown row, or a (row, step) given
    twice.
    """
    missing = [name for name in ("row", "step", *Nll) if name not in nll.columns]
    if missing:
        raise ValueError(f"The table of NLLs lacks the columns {', '.join(missing)}.")
    if nll.duplicated(["row", "step"]).any():
        raise ValueError("A sample is scored twice by one checkpoint: keep one row per (row, step).")
    if not nll["row"].isin(np.arange(len(samples))).all():
        raise ValueError(f"The table of NLLs names rows outside 0..{len(samples) - 1} of the fixed samples.")
    view = under(samples, protocol)[["task", "seed", "fingerprint", "correct", "speedup"]]
    if incorrect_as_zero:
        view["speedup"] = view["speedup"].where(view["correct"], 0.0)
    found = nll[["row", "step", *Nll]].merge(view, left_on="row", right_index=True)
    columns = ["row", "step", "task", "seed", "fingerprint", "correct", "speedup", *Nll]
    return found.sort_values(["step", "row"])[columns].reset_index(drop=True)


def probe_quarter(probe: pd.DataFrame, which: Quarter, signal: Nll = Nll.MEAN) -> pd.DataFrame:
    """The probe of one quarter of its samples, chosen once and for all steps, over samples with a speedup.

    Samples that tie with the last one of the quarter all belong to it, so it may hold more than n / 4.
    """
    known = probe[probe["speedup"].notna()]
    if which is Quarter.ALL or not len(known):
        return known
    first = known[known["step"] == known["step"].min()]
    keys = {
        Quarter.SLOWEST: first["speedup"],
        Quarter.MOST_SURPRISING: -settled(first[signal.value]),
        Quarter.LEAST_SURPRISING: settled(first[signal.value]),
    }
    key = keys[which]
    limit = np.sort(key.to_numpy(dtype=float))[int(np.ceil(len(key) / 4)) - 1]
    return known[known["row"].isin(first.loc[key <= limit, "row"])]


def settled(values: pd.Series) -> pd.Series:
    """NLLs on a grid of ``TIE``, so that copies of one completion tie."""
    return (values.astype(float) / TIE).round() * TIE


def probe_correlations(
    probe: pd.DataFrame,
    which: Quarter = Quarter.ALL,
    signal: Nll = Nll.MEAN,
    distinct: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Spearman's rho(NLL, speedup) per step, pooled and within tasks. One row per (step, analysis).

    ``step``, ``analysis`` (``pooled``: the paper's, in which differences between tasks dominate; ``within task``: the
    mean of the tasks' own rhos), and the fields of ``Correlation``: ``rho``, ``p_naive`` (samples as if independent,
    the paper's), ``p_within_task``, ``low``, ``high`` (bootstrap over tasks), ``n``, ``tasks``. ``distinct`` collapses
    equal candidates of a task into one (means), since copies are not independent evidence.
    """
    chosen = probe_quarter(probe, which, signal)
    if distinct:
        kinds = ["step", "task", "fingerprint"]
        chosen = chosen.groupby(kinds, as_index=False, dropna=False)[[signal.value, "speedup"]].mean()
    rows = []
    for step, part in chosen.groupby("step", sort=True):
        nll, speedup, tasks = settled(part[signal.value]), part["speedup"], part["task"].to_numpy()
        found: dict[str, Correlation] = {
            "pooled": spearman(nll, speedup, tasks, None, resamples, seed),
            "within task": within_task_spearman(nll, speedup, tasks, resamples, seed),
        }
        rows += [{"step": step, "analysis": name, **asdict(value)} for name, value in found.items()]
    columns = ["step", "analysis", *Correlation.__dataclass_fields__]
    return pd.DataFrame(rows, columns=columns)


def probe_nll(probe: pd.DataFrame, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> pd.DataFrame:
    """Mean NLL of the fixed samples per step (the paper's 6.71, 6.66, 6.75, 6.86), means over tasks.

    One row per step: ``nll_mean`` with ``nll_mean_low``, ``nll_mean_high`` (nats per token), ``nll_sum`` with bounds
    (nats per completion), bootstrap over tasks; ``change`` of ``nll_mean`` since the first step with ``change_low``,
    ``change_high`` (paired by sample, so its interval is much narrower than the means' own); ``tasks``, ``n``.
    """
    columns = "step nll_mean nll_mean_low nll_mean_high nll_sum nll_sum_low nll_sum_high change change_low change_high"
    if not len(probe):
        return pd.DataFrame(columns=[*columns.split(), "tasks", "n"])
    start = probe[probe["step"] == probe["step"].min()].set_index("row")[Nll.MEAN.value]
    changed = probe.assign(change=probe[Nll.MEAN.value] - probe["row"].map(start))
    rows = []
    for step, part in changed.groupby("step", sort=True):
        means = part.groupby("task")[[*Nll, "change"]].mean()
        row = {"step": step}
        for name in (*Nll, "change"):
            found = mean_interval(means[name], means.index, resamples=resamples, level=level, seed=seed)
            row |= {f"{name}": found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row | {"tasks": len(means), "n": len(part)})
    return pd.DataFrame(rows, columns=[*columns.split(), "tasks", "n"])
