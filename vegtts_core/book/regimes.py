"""The regimes of section 5.4: does adaptation gain where the base policy already succeeds?

Best-of-N and the base policy are one policy, so the step-0 rollouts of other seeds' adaptation runs are a Best-of-N
run: independent of the run that is compared, same scaffold, and with two of them the paper's budget (twice K per task
against two steps of K). So are samples of a Best-of-N run of that policy that the compared run did not draw as well.
It arranges what ``metrics.regimes`` computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published, theme
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.metrics.regimes import THRESHOLD
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, spearman, wilson

NAN = float("nan")

PAPER = "published, subset 2"


@dataclass(frozen=True)
class Rule:
    """The 30% rule on one set of tasks: ``tasks`` (task, coverage, benefit, low, high, above, benefits)."""

    name: str
    tasks: pd.DataFrame
    step: int | None
    rho: Interval
    rho_split: float

    @property
    def told(self) -> pd.DataFrame:
        """The tasks of which it can be right or wrong (``metrics.informative``)."""
        return self.tasks[metrics.informative(self.tasks)]

    @property
    def right(self) -> int:
        """Tasks for which the rule says what happened."""
        return int((self.told["above"] == self.told["benefits"]).sum())

    @property
    def agreement(self) -> Interval:
        """Their share with Wilson's bounds."""
        return wilson(self.right, len(self.told))


def paper_rule() -> Rule:
    """The rule on the paper's own table of subset 2 (the only one with both numbers per task)."""
    table = published.table("5.4-tasks")
    tasks = pd.DataFrame({"task": table.index.astype(str), "coverage": table["best_of_n"].to_numpy(dtype=float)})
    tasks["benefit"] = (table["boa_step_1"] - table["best_of_n"]).to_numpy(dtype=float)
    before = [wilson(min(share * 64, 64), 64) for share in table["best_of_n"]]
    after = [wilson(min(share * 32, 32), 32) for share in table["boa_step_1"]]
    gaps = zip(tasks["benefit"], before, after, strict=True)
    bounds = [
        (
            gap - float(np.hypot(a.estimate - a.low, b.high - b.estimate)),
            gap + float(np.hypot(a.high - a.estimate, b.estimate - b.low)),
        )
        for gap, b, a in gaps
    ]
    tasks["low"], tasks["high"] = np.array(bounds).T
    tasks["above"], tasks["benefits"] = tasks["coverage"] > THRESHOLD, tasks["benefit"] > 0
    found = spearman(tasks["coverage"], tasks["benefit"], tasks["task"])
    return Rule(PAPER, tasks, 1, Interval(found.rho, found.low, found.high, found.n), NAN)


def control(name: str, runs: Mapping[str, Run], searches: Iterable[Run] = (), any_card: bool = False) -> pd.DataFrame:
    """Step-0 rollouts of the other runs that start from the same policy on the same tasks, as one seed's Best-of-N.

    ``searches``: Best-of-N runs; of those by the same policy, samples of the tasks that the run itself did not draw.
    With ``any_card`` also what was measured on other cards: it is not to be compared, but can be counted.
    """
    mine = runs[name]
    tasks, own = set(mine.samples["task"]), _draws(mine)

    def alike(run: Run) -> bool:
        return _asked_alike(mine, run) and (any_card or card(mine) == card(run))

    parts = []
    for other, run in runs.items():
        if other != name and alike(run) and set(run.samples["task"]) == tasks and not own & _draws(run):
            parts.append(run.samples[run.samples["step"] == 0])
    taken = {seed for part in parts for seed in part["seed"]}
    for run in searches:
        if alike(run) and tasks <= set(run.samples["task"]):
            rows = run.samples[run.samples["task"].isin(tasks)]
            drawn = mine.samples[mine.samples["step"] == 0].groupby("seed")["sample"].max()
            fresh = [
                seed not in taken and sample > drawn.get(seed, -1)
                for seed, sample in zip(rows["seed"], rows["sample"], strict=True)
            ]
            parts.append(rows[fresh])
    if not parts:
        return mine.samples.iloc[:0]
    whole = pd.concat(parts, ignore_index=True).assign(seed=-1)
    return whole.assign(sample=whole.groupby("task").cumcount())


_SAME = ("weights_sha256", "adapter_sha256")


def _draws(run: Run) -> set[int]:
    """The seeds of a run's step 0."""
    return set(run.samples.loc[run.samples["step"] == 0, "seed"])


def _asked_alike(one: Run, other: Run) -> bool:
    """Whether both sampled one policy at one temperature with the same prompts."""
    a, b = one.manifest["parameters"], other.manifest["parameters"]
    same = all(one.manifest["policy"][key] == other.manifest["policy"][key] for key in _SAME)
    asked = all(a.get(key) == b.get(key) for key in ("temperature", "size", "examples", "device", "evaluation_device"))
    return same and asked and _scaffolds(a) == _scaffolds(b)


def _scaffolds(parameters: Mapping[str, Any]) -> list[str]:
    return list(parameters.get("scaffolds") or [parameters.get("scaffold")])


def measured_rules(runs: Mapping[str, Run], searches: Iterable[Run] = ()) -> list[Rule]:
    """The rule for each adaptation run that has a control whose budget allows at least one update."""
    searches = list(searches)
    rules = []
    for name, run in runs.items():
        search = control(name, runs, searches)
        if not _enough(run, search):
            continue
        protocol = str(run.manifest["parameters"]["protocol"])
        found = metrics.compare_regimes(search, run.samples, protocol)
        tasks = found.tasks.assign(task=found.tasks["task"].str.split("/").str[-1])
        tasks = tasks.sort_values("task", key=lambda names: names.astype(int), ignore_index=True)
        rho = Interval(found.correlation.rho, found.correlation.low, found.correlation.high, found.correlation.n)
        seed = int(run.manifest["parameters"]["seed"])
        name = f"here, {card(run)}, seed {seed}"
        rules.append(Rule(name, tasks, int(found.steps.iloc[0]), rho, found.rho_split))
    return rules


def _enough(run: Run, search: pd.DataFrame) -> bool:
    """Whether Best-of-N has the rollouts of step 0 and of one update."""
    first_two = run.samples[run.samples["step"] <= 1]
    return len(search) >= len(first_two) and first_two["step"].nunique() == 2


def left_out(runs: Mapping[str, Run], searches: Iterable[Run] = ()) -> pd.DataFrame:
    """One row per run without a rule: run, its ``card``, the ``others`` on which more of its Best-of-N was measured.

    ``enough``: whether those of all cards together would have rollouts for one update.
    """
    searches = list(searches)
    rows = []
    for name, run in runs.items():
        here = control(name, runs, searches)
        if _enough(run, here):
            continue
        every = control(name, runs, searches, any_card=True)
        cards = {card(other) for other in (*runs.values(), *searches) if _asked_alike(run, other)} - {card(run)}
        others = sorted(cards) if len(every) > len(here) else []
        rows.append((name, card(run), others, _enough(run, every)))
    return pd.DataFrame(rows, columns=["run", "card", "others", "enough"])


def table(rules: list[Rule]) -> pd.DataFrame:
    """One row per rule: name, step, above, below (gaining of so many tasks), agreement, rho, split."""
    rows = []
    for rule in rules:
        counts = metrics.classify_regimes(rule.told["coverage"], rule.told["benefit"])
        cells = [f"{row['benefits']} of {row['benefits'] + row['does_not']}" for _, row in counts.iterrows()]
        agreement = f"{rule.right} of {len(rule.told)}"
        rows.append((rule.name, rule.step, *cells, agreement, rule.agreement, rule.rho, rule.rho_split))
    columns = ["name", "step", "above", "below", "right", "agreement", "rho", "split"]
    return pd.DataFrame(rows, columns=columns)


COLUMNS = {
    "name": Column("tasks"),
    "step": Column("step", "d"),
    "above": Column("gain, coverage above 30%"),
    "below": Column("gain, below"),
    "right": Column("rule right"),
    "agreement": Column("share [Wilson]", ".0%"),
    "rho": Column("ρ [95%]", ".2f"),
    "split": Column("ρ, halves", ".2f"),
}


def figure(rules: list[Rule]) -> alt.HConcatChart:
    """Figure 5 redrawn: what adaptation gains over Best-of-N against coverage, per task; published beside ours."""
    panels = [_panel(rules[0].tasks.assign(source=rules[0].name), "published", True)]
    if rules[1:]:
        ours = pd.concat([rule.tasks.assign(source=rule.name) for rule in rules[1:]], ignore_index=True)
        panels.append(_panel(ours, "measured here", False))
    return alt.hconcat(*panels).resolve_scale(color="shared", shape="shared")


def _panel(frame: pd.DataFrame, title: str, first: bool) -> alt.LayerChart:
    names = ["said rightly", "said wrongly", "nothing to say"]
    shown = frame[["task", "coverage", "benefit", "low", "high", "source"]].copy()
    shown["rule"] = np.where(frame["above"] == frame["benefits"], *names[:2])
    shown.loc[~metrics.informative(frame), "rule"] = names[2]
    shown["label"] = shown["task"].where(~shown["task"].duplicated(), "")
    across = alt.X(
        "coverage:Q",
        scale=alt.Scale(domain=[0, 1], padding=10, nice=False),
        axis=alt.Axis(title="coverage (Best-of-N, per sample)", format=".0%", values=[0, 0.3, 0.6, 1]),
    )
    upright = alt.Axis(title="adapted minus Best-of-N", format="+.0%") if first else alt.Axis(title=None, format="+.0%")
    scale = alt.Scale(domain=[-1, 1], nice=False)
    colours = [theme.CATEGORY_COLOURS[2], theme.CATEGORY_COLOURS[1], theme.MUTED]
    colour = alt.Color("rule:N", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(title=None))
    shape = alt.Shape("rule:N", scale=alt.Scale(domain=names, range=["circle", "diamond", "cross"]))
    base = alt.Chart(shown).encode(x=across, color=colour)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("task", "source")]
    tooltip += [alt.Tooltip("coverage:Q", format=".1%"), alt.Tooltip("benefit:Q", format="+.1%")]
    marks = pd.DataFrame({"coverage": [THRESHOLD], "benefit": [0.0]})
    rule = alt.Chart(marks).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    return alt.layer(
        rule.encode(x=across),
        rule.encode(y=alt.Y("benefit:Q", scale=scale, axis=upright)),
        base.mark_rule(strokeWidth=1, opacity=0.6).encode(y=alt.Y("low:Q", scale=scale, axis=upright), y2="high:Q"),
        base.mark_point(size=50).encode(y=alt.Y("benefit:Q", scale=scale, axis=upright), shape=shape, tooltip=tooltip),
        base.mark_text(dx=12, fontSize=10, color=theme.MUTED).encode(
            y=alt.Y("benefit:Q", scale=scale, axis=upright), text="label:N", color=alt.value(theme.MUTED)
        ),
    ).properties(width=theme.SMALL + 60, height=theme.SMALL + 60, title=title)
