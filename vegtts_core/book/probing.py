"""The data of chapter 5.3b: fixed samples under every checkpoint, how their ranking moves, and diversity beside it.

It arranges what ``metrics.probe``, ``metrics.probe_change`` and ``metrics.diversity`` compute. Charts are in
``probing_charts``, sentences in ``probing_words``. rho is rho(NLL, speedup) throughout, the paper's: below 0, more
surprising samples are slower, so that confidence ranks them rightly.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.runs import TERMINAL, training_runs
from vegtts_core.book.selecting_tests import naive_rho
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.metrics import Change, Nll, Quarter, Unit
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval
from vegtts_core.training.probe import Probe, load_probe, of_first_update, probe_run

NAN = float("nan")

READINGS = {"every sample, failures as 0": True, "correct samples": False}
"""What a failed sample's speedup is; the paper does not say which it took."""

SETS = (Quarter.ALL, Quarter.SLOWEST, Quarter.MOST_SURPRISING)
"""All samples, and the two things that "bottom quartile, where selection operates" may mean."""

ANALYSES = ("pooled", "within task")

PAPER_SAMPLES = 320
"""Section 5.3b's fixed samples; a quarter of them is 80."""

RESAMPLES = 1000

FEWEST = 5
"""Below so many samples no rho is shown."""


@dataclass(frozen=True)
class Material:
    """The adaptation run, the probe of its checkpoints, and the protocol that speedups are read under."""

    run: Run
    probe: Probe
    protocol: str

    @property
    def last(self) -> int:
        """The last checkpoint that scored."""
        return int(self.probe.nll["step"].max())


def material(source: str, params: str | Path, seed: int | None = None) -> Material:
    """The probe that ``params`` names and the run whose checkpoints it scored.

    ``recorded``: as they lie in ``data/runs``. ``live``: the adaptation run is made if it is missing, and its own base
    rollouts are the fixed samples. Raises UserError.
    """
    runs = training_runs(source, params, "adaptation", seed)
    if source == "recorded":
        name = (read_yaml(params).get("recorded") or {}).get("probe")
        if not name:
            raise UserError(f"The parameters {params} name no recorded probe: use source=live or other parameters.")
        probe = load_probe(recorded_folder() / (name if isinstance(name, str) else name[0]))
        wanted = probe.manifest["parameters"]["origin"]["run"]
        if wanted not in runs:
            raise UserError(f"The recorded probe is of {wanted}, which was not asked for: leave out the seed.")
        run = runs[wanted]
    else:
        run = next(iter(runs.values()))
        terminal = True if os.environ.get(TERMINAL) else None
        probe = probe_run(run, run, console=Console(file=sys.stderr, force_jupyter=False, force_terminal=terminal))
    return Material(run, probe, str(run.manifest["parameters"]["protocol"]))


def trained_on(found: Material) -> pd.Series:
    """Per fixed sample, whether it is one of the rollouts that the run's first update was made from."""
    return of_first_update(found.run, found.probe.samples)


def untrained(found: Material) -> Material:
    """``found`` without the scores of samples that the first update was made from."""
    known = trained_on(found)
    rows = found.probe.nll["row"].map(known).eq(False)
    return replace(found, probe=replace(found.probe, nll=found.probe.nll[rows]))


def joined(found: Material, failures: bool) -> pd.DataFrame:
    """The NLLs beside their samples' speedups; with ``failures`` those of failed samples are 0, else they are out."""
    return metrics.join_probe(found.probe.nll, found.probe.samples, found.protocol, failures)


def correlations(found: Material, signal: Nll = Nll.MEAN, resamples: int = RESAMPLES) -> pd.DataFrame:
    """rho per step: columns reading, set, analysis, step, rho, low, high, p_naive, n, tasks.

    NaN where it is undefined or n < ``FEWEST``.
    """
    rows = []
    for reading, failures in READINGS.items():
        table = joined(found, failures)
        for which in SETS:
            part = metrics.probe_correlations(table, which, signal, resamples=resamples)
            rows.append(part.assign(reading=reading, set=which.value))
    columns = ["reading", "set", "analysis", "step", "rho", "low", "high", "p_naive", "n", "tasks"]
    table = pd.concat(rows, ignore_index=True)[columns]
    table.loc[table["n"] < FEWEST, ["rho", "low", "high", "p_naive"]] = NAN
    return table


def changes(found: Material, step: int | None = None, permutations: int = RESAMPLES) -> pd.DataFrame:
    """Whether rho moved between the first and the last checkpoint, one row per (reading, set, analysis).

    ``before``, ``after``, ``change`` (an Interval, bootstrap over tasks), ``samples`` and ``tasks`` (two-sided p of the
    paired permutation test that exchanges samples, or whole tasks), ``least`` (the smallest p that tasks allow), ``n``.
    """
    step, rows = found.last if step is None else step, []
    for reading, failures in READINGS.items():
        table = joined(found, failures)
        for which in SETS:
            for analysis in ANALYSES:
                inside = analysis == ANALYSES[1]
                by = {
                    unit: metrics.rho_change(table, step, 0, unit, inside, which, permutations=permutations)
                    for unit in (Unit.SAMPLES, Unit.TASKS)
                }
                one, whole = by[Unit.SAMPLES], by[Unit.TASKS]
                if one.n < FEWEST:
                    one = whole = Change(NAN, NAN, NAN, NAN, NAN, NAN, NAN, one.n, one.tasks)
                rows.append(
                    {
                        "reading": reading,
                        "set": which.value,
                        "analysis": analysis,
                        "before": one.base,
                        "after": one.later,
                        "change": Interval(one.change, one.low, one.high, one.tasks),
                        "samples": one.p_value,
                        "tasks": whole.p_value,
                        "least": whole.smallest_p,
                        "n": one.n,
                    }
                )
    return pd.DataFrame(rows)


def _p(value: float) -> str:
    if np.isnan(value):
        return number(value)
    return "<\u00a00.002" if value < 0.002 else number(value, ".3f")


CHANGE_COLUMNS = {
    "reading": Column("samples"),
    "set": Column("set"),
    "analysis": Column("ρ"),
    "n": Column("n", "d"),
    "before": Column("step 0", ".2f"),
    "after": Column("last step", ".2f"),
    "change": Column("change [95%]", ".3f"),
    "samples": Column("p, samples", _p),
    "tasks": Column("p, tasks", _p),
}


def paper_rhos() -> pd.DataFrame:
    """The paper's four rhos: quantity, step, rho, printed p, and p for 320 and for 80 independent samples."""
    table = published.table("5.3b-probe")
    names = {
        "all-step-0": "all samples",
        "all-step-8": "all samples",
        "bottom-quartile-first": "bottom quartile",
        "bottom-quartile-step-3": "bottom quartile",
    }
    return pd.DataFrame(
        {
            "quantity": [names[key] for key in table.index],
            "step": table["step"].astype(int).to_numpy(),
            "rho": table["rho"].to_numpy(dtype=float),
            "printed": table["p_value"].to_numpy(dtype=float),
            "whole": [naive_rho(float(rho), PAPER_SAMPLES)[0] for rho in table["rho"]],
            "quarter": [naive_rho(float(rho), PAPER_SAMPLES // 4)[0] for rho in table["rho"]],
        }
    )


def scientific(value: float) -> str:
    """A p-value that may be tiny: ``9.8 × 10⁻¹⁷``."""
    if np.isnan(value):
        return number(value)
    if value >= 1e-3:
        return number(value, ".2g")
    lead, power = f"{value:.1e}".split("e")
    return f"{lead} × 10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


PAPER_COLUMNS = {
    "quantity": Column("samples"),
    "step": Column("step", "d"),
    "rho": Column("ρ", ".3f"),
    "printed": Column("printed", scientific, group="p"),
    "whole": Column("for n = 320", scientific, group="p"),
    "quarter": Column("for n = 80", scientific, group="p"),
}


def nlls(found: Material, resamples: int = RESAMPLES) -> pd.DataFrame:
    """``metrics.probe_nll`` over all fixed samples, correct or not."""
    return metrics.probe_nll(joined(found, True), resamples)


def seen(found: Material) -> pd.Series:
    """Share of the fixed samples whose very completion had given an update before each step, by step."""
    fixed = pd.MultiIndex.from_frame(found.probe.samples[["task", "completion"]])
    shares = {}
    for step in sorted(found.probe.nll["step"].unique()):
        before = found.run.samples[found.run.samples["step"] < step]
        known = pd.MultiIndex.from_frame(before[["task", "completion"]])
        shares[int(step)] = float(fixed.isin(known).mean())
    return pd.Series(shares)


#: The diversity measures shown: how they are called, and whether more of it is more diverse.
DIVERSITY = {
    "distinct_share": ("distinct candidates / parsed", 1),
    "entropy": ("entropy over candidates (nats)", 1),
    "edit_distance": ("mean edit distance", 1),
    "self_bleu_4": ("self-BLEU-4", -1),
    "surprisal": ("surprisal of own rollouts (nats/token)", 1),
}


def diversity(found: Material) -> pd.DataFrame:
    """``group_diversity`` of the run's own rollouts, step by step."""
    return metrics.group_diversity(found.run.samples, found.protocol)


def diversity_changes(groups: pd.DataFrame, resamples: int = RESAMPLES) -> pd.DataFrame:
    """First against last step, paired by task and seed: measure, label, sign, first, last, change (an Interval)."""
    ends = [groups["step"].min(), groups["step"].max()]
    rows = []
    for measure, (label, sign) in DIVERSITY.items():
        wide = groups[groups["step"].isin(ends)].pivot(index=["task", "seed"], columns="step", values=measure)
        wide = wide.reindex(columns=ends).astype(float)
        a, b = wide.iloc[:, 0], wide.iloc[:, -1]
        both = a.notna() & b.notna()
        change = mean_interval((b - a)[both], wide.index.get_level_values("task")[both], resamples=resamples)
        rows.append((measure, label, sign, float(a[both].mean()), float(b[both].mean()), change, change.n))
    return pd.DataFrame(rows, columns=["measure", "label", "sign", "first", "last", "change", "tasks"])


DIVERSITY_COLUMNS = {
    "label": Column("measure"),
    "first": Column("step 0", ".2f"),
    "last": Column("last step", ".2f"),
    "change": Column("change [95%]", ".2f"),
    "tasks": Column("tasks", "d"),
}
