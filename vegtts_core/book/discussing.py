"""Chapter 6: what the paper's discussion takes for granted, computed from the runs: signal, seconds, open questions.

Verdicts come from the table of claims (``verdicts_words``); here is only what no claim of that table covers.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core.book import study
from vegtts_core.book import trajectories_curse as curse
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.tables import Column
from vegtts_core.book.trajectories import Source
from vegtts_core.book.verdicts_study import grouped
from vegtts_core.metrics import GROUP
from vegtts_core.parameters import read_yaml
from vegtts_core.runs import Run
from vegtts_core.selection import eligible
from vegtts_core.statistics import Effect, Interval, mean_effect, mean_interval

Runs = Mapping[str, Run]

DIGITS = 2
"""Rewards that agree to so many decimals are one level: copies of a candidate share a verdict."""


def short(text: str, names: Mapping[str, str]) -> str:
    """``text`` with policies by their letter (``verdicts.letters``) in place of their label."""
    for label in sorted(names, key=len, reverse=True):
        text = text.replace(label, names[label])
    return text


def informative(runs: Runs) -> Interval:
    """Share of groups at step 0 whose rewards are not all equal; only these have a gradient. Bootstrap over tasks."""
    start = pd.concat([run.samples[run.samples["step"] == 0] for run in runs.values()])
    rewards = start["reward"].astype(float).fillna(0.0).round(DIGITS)
    levels = rewards.groupby([start[name] for name in GROUP]).nunique()
    return mean_interval((levels > 1).astype(float), levels.index.get_level_values("task").to_numpy())


def signal_text(runs: Runs) -> str:
    """`informative` for each policy."""
    parts = [
        f"{number(informative(own), '.0%')} of {groups(own)} groups ({label})" for label, own in grouped(runs).items()
    ]
    return f"With rewards that differ at step 0: {'; '.join(parts)}." if parts else "No adaptation run."


def groups(runs: Runs) -> int:
    """Groups at step 0."""
    return sum(run.samples.loc[run.samples["step"] == 0, "task"].nunique() for run in runs.values())


def signal_verdict(runs: Runs) -> str:
    """Whether every sample contributes."""
    found = [informative(own) for own in grouped(runs).values()]
    if not found:
        return "Not run."
    if all(share.estimate >= 1 for share in found):
        return "Here every group has rewards that differ, so every group moves the policy."
    least = min(found, key=lambda share: share.estimate)
    return (
        f"Not every sample: at worst {number(1 - least.estimate, '.0%')} of groups hold one reward only and move "
        "nothing. Where all samples are wrong, a continuous reward is as silent as a binary one."
    )


def seconds(searches: Runs, adaptations: Runs) -> pd.DataFrame:
    """Seconds per 100 rollouts: columns label, sampling, evaluation, update, and share (evaluation's)."""
    rows = []
    families = [(label, {label: run}) for label, run in searches.items()] + list(grouped(adaptations).items())
    for label, runs in families:
        parts = {
            name: sum(float(run.compute.get(f"{name}_seconds", 0.0)) for run in runs.values())
            for name in ("sampling", "evaluation", "update")
        }
        rollouts = sum(float(run.compute["rollouts"]) for run in runs.values())
        share = parts["evaluation"] / sum(parts.values())
        rows.append({"label": label} | {k: 100 * v / rollouts for k, v in parts.items()} | {"share": share})
    return pd.DataFrame(rows, columns=["label", "sampling", "evaluation", "update", "share"])


def span(values: pd.Series) -> str:
    """``28% to 43%``, or one share where both ends read alike."""
    low, high = (number(float(value), ".0%") for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def seconds_text(table: pd.DataFrame) -> str:
    """The share of evaluation, least and most."""
    return f"Evaluation takes {span(table['share'])} of the time, over {plural(len(table), 'kind')} of run."


def seconds_verdict(table: pd.DataFrame) -> str:
    """Whether evaluation bounds the time, and what an update adds."""
    bound, moved = int((table["share"] > 0.5).sum()), table[table["update"] > 0]
    text = f"Evaluation takes most of the time in {bound} of {len(table)}."
    if len(moved):
        extra = span(moved["update"] / (moved["sampling"] + moved["evaluation"]))
        text += (
            " It is paid per rollout by search and adaptation alike, so it favours neither; an update adds "
            f"{extra} to the seconds of its rollouts."
        )
    return text


def copies_text(searches: Runs) -> str:
    """Distinct correct candidates among correct samples of each search."""
    parts = []
    for label, run in searches.items():
        right = run.samples[run.samples["sound_correct"].eq(True).fillna(False)]
        distinct = int(right.groupby(["task", "seed"])["fingerprint"].nunique().sum())
        parts.append(f"{distinct} distinct candidates among {len(right)} correct samples ({label})")
    return f"{'; '.join(parts)}."


def tail(view: pd.DataFrame) -> pd.Series:
    """Within each group the rank of the fastest correct sample by surprisal: 1 the most surprising, 0 the least.

    Copies share the mean of their ranks; groups of one candidate are left out. Index: task, seed, step.
    """
    rows = view[eligible(view)]
    ranks = {}
    for key, part in rows.groupby(GROUP):
        if part["surprisal"].round(4).nunique() > 1 and part["speedup"].nunique() > 1:
            rank = (part["surprisal"].round(4).rank() - 1) / (len(part) - 1)
            ranks[key] = float(rank[part["fresh_speedup"] == part["fresh_speedup"].max()].mean())
    index = (
        pd.MultiIndex.from_tuples(list(ranks), names=GROUP)
        if ranks
        else pd.MultiIndex.from_arrays([[]] * 3, names=GROUP)
    )
    return pd.Series(list(ranks.values()), index=index, dtype=float)


def tail_effect(view: pd.DataFrame) -> Effect:
    """Mean of `tail` over tasks, less the 0.5 of a fastest sample that surprise tells nothing about."""
    found = tail(view) - 0.5
    return mean_effect(found.to_numpy(), found.index.get_level_values("task").to_numpy())


def tail_text(views: Mapping[str, pd.DataFrame]) -> str:
    """`tail_effect` of each search."""
    parts = []
    for label, view in views.items():
        found = tail_effect(view).interval
        shown = Interval(found.estimate + 0.5, found.low + 0.5, found.high + 0.5, found.n)
        count = plural(found.n, "task")
        parts.append(f"{number(shown, '.2f')} over {count} ({label})" if found.n else f"no group to rank ({label})")
    return f"Where the fastest correct sample stands in its group, 1 being the most surprising: {'; '.join(parts)}."


def tail_verdict(views: Mapping[str, pd.DataFrame]) -> str:
    """Whether optima live in the tail."""
    signs = {label: tail_effect(view).sign for label, view in views.items()}
    above, below = ([label for label, sign in signs.items() if sign == side] for side in (1, -1))
    if not above and not below:
        return "No policy here has its fastest samples on one side of the middle beyond its interval."
    parts = [f"in the surprising half: {', '.join(above)}"] * bool(above)
    parts += [f"in the confident half: {', '.join(below)}"] * bool(below)
    return f"The fastest lie, beyond the interval, {'; '.join(parts)}."


def oracle_text(runs: Runs) -> tuple[str, str]:
    """(here, verdict) on a step per task against one for all, held out (section 6.2)."""
    sources = {n: Source(n, run.samples, str(run.manifest["parameters"]["protocol"])) for n, run in runs.items()}
    if not sources:
        return "No adaptation run.", "Not run."
    table = curse.oracles(sources)
    gaps = [Interval(float(table[name].mean()), float("nan"), float("nan"), len(table)) for name in ("gap", "half_gap")]
    here = (
        f"A step per task less one for all, mean of {plural(len(table), 'run')}: {points(gaps[0]).split(' (')[0]} as "
        f"reported, {points(gaps[1]).split(' (')[0]} on rollouts that chose no step."
    )
    better = int((table["half_gap"] > 0).sum())
    held = f"Held out, it is better in {better} of {plural(len(table), 'run')}"
    return here, f"{held}: a maximum over tasks and steps flatters itself."


QUESTIONS = (
    (
        "entropy-regularised adaptation",
        "whether over-sharpening belongs to dense rewards or to plain GRPO",
        ("entropic", "entropy"),
    ),
    (
        "ranking by surprisal before evaluation",
        "whether the rule saves evaluations, and not only chooses after all of them",
        (),
    ),
    (
        "thinned rewards",
        "whether the best step comes later, as the compression principle says",
        ("sparse", "shuffled"),
    ),
)
"""Section 6.7: question, what it would tell, how the names of the study's runs begin that would."""


def open_questions() -> pd.DataFrame:
    """Columns question, tells, runs (recorded of planned)."""
    plan = list((read_yaml(study.STUDY).get("beyond") or {}).get("vary") or {})
    recorded = study.studied("beyond")
    rows = []
    for question, tells, beginnings in QUESTIONS:
        planned, there = (sum(name.startswith(beginnings) for name in names) for names in (plan, recorded))
        told = f"{there} of {max(planned, there)} recorded"
        rows.append((question, tells, told if beginnings else "needs no new run: any search has the material"))
    return pd.DataFrame(rows, columns=["question", "tells", "runs"])


OPEN_COLUMNS = {
    "question": Column("question"),
    "tells": Column("what it would tell"),
    "runs": Column("the study's runs"),
}


def beyond_text() -> str:
    """Which of the study's variants of the update are recorded."""
    names = list(study.studied("beyond"))
    return f"Recorded: {', '.join(f'`{name}`' for name in names)}." if names else "No such run is recorded yet."


def hours(adaptations: Runs) -> str:
    """Wall time of an adaptation run and its updates, by policy."""
    parts = []
    for label, runs in grouped(adaptations).items():
        wall = sum(float(run.compute["wall_seconds"]) for run in runs.values()) / len(runs)
        steps = int(max(run.samples["step"].max() for run in runs.values()))
        parts.append(f"{number(wall / 60, '.0f')} minutes for {plural(steps, 'update')} ({label})")
    return f"{'; '.join(parts)}." if parts else "No adaptation run."
