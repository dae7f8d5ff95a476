"""What a peak is worth: the same rollouts choose a step and report its score (sections 3.5, 5.3, 6.2, 6.4).

Tables over sources (``trajectories.Source``): split halves, the distribution of the argmax, the oracle per task,
isolated runs, learning rates, early stopping. The statistics are those of ``vegtts_core.metrics.optimism``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core import metrics
from vegtts_core.book import adapting, published
from vegtts_core.book.tables import Column
from vegtts_core.book.trajectories import PAPER, Source, paper_k
from vegtts_core.metrics import Redrawn
from vegtts_core.statistics import Interval, wilson

NAN = float("nan")


def equal_steps(source: Source, resamples: int = 2000, seed: int = 0) -> float:
    """Permutation p-value of "all checkpoints are equally good": do the steps differ more than redistributed rollouts?

    Within each task the rollouts are dealt to the steps anew; the statistic is the variance of fast_1 over steps. 1
    where nothing can differ. Copies of a candidate share a verdict, which the permutation keeps.
    """
    counts = source.trajectory().tasks
    fast = (counts["sample_fast_p"] * counts["samples"]).round().astype(int)
    table = counts.assign(fast=fast).pivot(index="task", columns="step", values=["samples", "fast"])
    sizes, hits = table["samples"].to_numpy(dtype=int), table["fast"].to_numpy(dtype=int)
    rng = np.random.default_rng(seed)
    dealt = [rng.multivariate_hypergeometric(n, int(h.sum()), size=resamples) for n, h in zip(sizes, hits, strict=True)]
    again = (np.stack(dealt, 1) / sizes).mean(axis=1).var(axis=1)
    observed = float((hits / sizes).mean(axis=0).var())
    return float((1 + (again >= observed - 1e-12).sum()) / (1 + resamples))


def curse(sources: Mapping[str, Source]) -> pd.DataFrame:
    """One row per source: what the best step scores, and what it scores on rollouts that did not choose it.

    ``step``, ``naive`` (its score on all rollouts), ``base`` and ``last`` (first and last step's), ``gain`` (naive -
    base), ``held_out`` (split halves), ``held_gain`` (held out - base), ``held_drop`` (held out - last: what is lost
    after the peak, without the peak's luck), ``same`` (share of halves that choose the step), ``chosen`` and
    ``as_good`` (of redrawn rollouts: how often the step wins, how often step 0 is at least as good). ``fast``,
    ``last_fast``: fast rollouts at the best and the last step, of ``rollouts`` each; ``flat``: whether all steps score
    alike; ``equal``: `equal_steps`.
    """
    rows = []
    for name, source in sources.items():
        half = metrics.split_half_optimism(source.samples, source.protocol).iloc[0]
        optimum = metrics.step_optimum(source.samples, source.protocol)
        scores = optimum.set_index("step")
        base, last = float(scores["sample_fast_p"].iloc[0]), float(scores["sample_fast_p"].iloc[-1])
        step, rollouts = int(half["step"]), int(len(source.samples) / len(scores))
        rows.append(
            {
                "source": name,
                "step": step,
                "last_step": int(scores.index[-1]),
                "naive": float(half["naive"]),
                "base": base,
                "last": last,
                "gain": float(half["naive"]) - base,
                "held_out": float(half["held_out"]),
                "held_gain": float(half["held_out"]) - base,
                "held_drop": float(half["held_out"]) - last,
                "same": float(half["same_step"]),
                "chosen": float(scores.at[step, "probability"]),
                "as_good": float(scores["at_least"].iloc[0]) if step != scores.index[0] else NAN,
                "fast": round(float(half["naive"]) * rollouts),
                "last_fast": round(last * rollouts),
                "rollouts": rollouts,
                "flat": bool(np.ptp(scores["sample_fast_p"].to_numpy(dtype=float)) < 1e-9),
                "equal": equal_steps(source),
                "oracle_in_sample": float(half["oracle_in_sample"]),
                "oracle_held_out": float(half["oracle_held_out"]),
            }
        )
    return pd.DataFrame(rows)


CURSE_COLUMNS = {
    "source": Column("trajectory"),
    "step": Column("best step", "d"),
    "equal": Column("all steps equal, p", ".3f"),
    "naive": Column("best", ".1%", group="fast_1, all rollouts"),
    "base": Column("step 0", ".1%", group="fast_1, all rollouts"),
    "last": Column("last step", ".1%", group="fast_1, all rollouts"),
    "gain": Column("over step 0", "+.1%", group="best step as reported"),
    "held_gain": Column("over step 0", "+.1%", group="on the other half"),
    "held_drop": Column("over the last", "+.1%", group="on the other half"),
    "chosen": Column("wins again", ".0%", group="rollouts redrawn"),
    "as_good": Column("step 0 as good", ".0%", group="rollouts redrawn"),
}


def optimum(sources: Mapping[str, Source]) -> pd.DataFrame:
    """How often each step would be the best: columns series, step, redrawn (rollouts, tasks), probability, chosen."""
    parts = []
    for name, source in sources.items():
        for kind in Redrawn:
            found = metrics.step_optimum(source.samples, source.protocol, redrawn=kind)
            parts.append(found.assign(series=name, redrawn=f"other {kind.value}"))
    frame = pd.concat(parts, ignore_index=True)
    return frame[["series", "step", "redrawn", "probability", "chosen"]]


def oracles(sources: Mapping[str, Source]) -> pd.DataFrame:
    """The best step of each task beside one step for all (section 6.2), reported and on the other half.

    Columns source, oracle, one (Best-of-Adaptation), gap, half_oracle (held out), half_one, half_gap.
    """
    rows = []
    worth = curse(sources).set_index("source")
    for name, source in sources.items():
        found = metrics.per_task_oracle(source.trajectory()).iloc[0]
        own, one = float(worth.at[name, "oracle_held_out"]), float(worth.at[name, "held_out"])
        rows.append((name, found["oracle"], found["best_of_adaptation"], found["gap"], own, one, own - one))
    names = ["source", "oracle", "one", "gap", "half_oracle", "half_one", "half_gap"]
    return pd.DataFrame(rows, columns=names)


ORACLE_COLUMNS = {
    "source": Column("trajectory"),
    "oracle": Column("a step per task", ".1%", group="as reported"),
    "one": Column("one step for all", ".1%", group="as reported"),
    "gap": Column("gap", "+.1%", group="as reported"),
    "half_oracle": Column("a step per task", ".1%", group="on the other half"),
    "half_one": Column("one step for all", ".1%", group="on the other half"),
    "half_gap": Column("gap", "+.1%", group="on the other half"),
}


# -- isolated runs -----------------------------------------------------------------------------------------------


_WORTH = ("naive", "last", "base", "held_gain", "held_drop", "last_step", "fast", "rollouts", "flat", "equal")


def isolated(theirs: Mapping[str, Source], ours: Mapping[str, Source]) -> pd.DataFrame:
    """Single-task runs, the paper's and ours, one row per (task, side): shares by step, best step and its worth.

    Columns task, side, ``step_0`` … , best, ``p1`` (step that early stopping at P = 1 returns), and columns of `curse`.
    """
    rows = []
    for name in dict.fromkeys([*theirs, *ours]):
        for side, sources in ((PAPER, theirs), ("here", ours)):
            if name not in sources:
                continue
            worth = curse({name: sources[name]}).iloc[0]
            scores = sources[name].trajectory().seeds.set_index("step")["sample_fast_p"]
            row = {"task": name, "side": side} | {f"step_{step}": float(share) for step, share in scores.items()}
            row |= {"best": worth["step"], "p1": metrics.early_stopping(scores).step}
            rows.append(row | {key: worth[key] for key in _WORTH})
    return pd.DataFrame(rows)


def isolated_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Columns of `isolated`'s table: as many steps as there are."""
    numbers = sorted(int(name[5:]) for name in frame.columns if name.startswith("step_"))
    shown = {f"step_{step}": Column(str(step), ".0%", group="fast_1 at step") for step in numbers}
    return {
        "task": Column("task"),
        "side": Column("source"),
        **shown,
        "best": Column("best step", "d"),
        "p1": Column("P = 1 returns", "d"),
        "equal": Column("all steps equal, p", ".3f"),
        "held_gain": Column("over step 0", "+.1%", group="on the other half"),
        "held_drop": Column("over the last", "+.1%", group="on the other half"),
    }


def early(steps: int = 2) -> tuple[int, int, float]:
    """(paper's isolated tasks that peak within ``steps`` steps, tasks, p of as many or more by chance).

    By chance: every step of a trajectory is as likely to be the best. Tasks that are saturated from step 0 on peak at
    step 0 by the rule for ties and are left out on both sides.
    """
    found = published.table("5.3-isolated")
    columns = [name for name in found.columns if name.startswith("step_")]
    moving = found[found[columns].nunique(axis=1) > 1]
    within = int((moving["boa_step"] <= steps).sum())
    chance = (steps + 1) / len(columns)
    return within, len(moving), float(stats.binom.sf(within - 1, len(moving), chance))


# -- learning rates ----------------------------------------------------------------------------------------------


def paper_rate(rate: str) -> Interval:
    """A fast_1 of the sweep with Wilson's interval, as if all its rollouts were of one task (the widest it can be).

    The rollouts of a step are those of appendix A.
    """
    share = float(published.value(f"6.4-rates/{rate}/fast_1"))
    n = paper_k() * int(published.table("A").at["ttt.tasks_per_step", "value"])
    return wilson(share * n, n)


def rates(ours: Mapping[str, Source], paper: Source) -> pd.DataFrame:
    """The sweep: `curse`'s rows for the paper's trajectory (its default rate) and for our runs, and its two numbers."""
    table = curse({f"paper, {published.table('A').at['ttt.learning_rate', 'value']}": paper, **ours})
    peak, base = paper_rate("1e-6"), paper_rate("3e-7")
    rows = [
        {"source": "paper, 1e-6", "step": 1, "naive": peak.estimate},
        {"source": "paper, 3e-7", "step": 0, "naive": base.estimate, "base": base.estimate},
    ]
    theirs = pd.concat([table.iloc[:1], pd.DataFrame(rows)], ignore_index=True)
    return pd.concat([theirs, table.iloc[1:]], ignore_index=True)


# -- early stopping ----------------------------------------------------------------------------------------------


def stops(families: Mapping[str, Mapping[str, Source]]) -> pd.DataFrame:
    """`adapting.stops` over every trajectory of several families, with ``family``."""
    parts = []
    for family, sources in families.items():
        scores = {n: s.trajectory().seeds.set_index("step")["sample_fast_p"] for n, s in sources.items()}
        parts.append(adapting.stops(scores).assign(family=family))
    return pd.concat(parts, ignore_index=True)


STOP_COLUMNS = {"family": Column("runs"), **adapting.STOP_COLUMNS}


def chance_within(last_step: float, steps: tuple[int, ...] = (1, 2)) -> float:
    """How often the best of equally good checkpoints 0..last would be one of ``steps``."""
    return float(np.mean([step in steps for step in range(int(last_step) + 1)]))
