"""What runs that move weights say of the paper's claims: trajectories, probe, transfer, self-distillation.

Each rule takes one policy's runs and decides by intervals over tasks, as chapters 5.3 to 5.5 and appendix E show them;
where runs are what is counted (peaks), by Wilson's interval over runs. Gathering is in ``verdicts_study``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import adapting, distilling_results, probing, published, selecting_words
from vegtts_core.book import trajectories as traj
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book import trajectories_curse as curse
from vegtts_core.book import trajectories_diversity as div
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.probing_words import ALPHA, moved
from vegtts_core.book.prose import number
from vegtts_core.book.regimes import Rule, control, measured_rules, paper_rule
from vegtts_core.book.selecting_words import points
from vegtts_core.book.trajectories_words import LEVEL
from vegtts_core.book.transferring import CONDITIONS, Direction, shown_name
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, by_sign, sizes
from vegtts_core.metrics import Quarter
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval, count_power, mean_effect, of_interval, wilson
from vegtts_core.tasks.load import named_selections

EARLY = (1, 2)
"""Where over-sharpening has its peak, by section 5.3."""

PEAKS_SHARE = 0.8
"""Of isolated tasks that peak early, as the paper counts them (4 of 5): the share that power is computed for."""


def _share(path: str) -> float:
    return float(published.value(path))


def _power(value: float) -> float:
    """No test at all finds nothing."""
    return 0.0 if math.isnan(value) else value


# -- trajectories ------------------------------------------------------------------------------------------------


def of_runs(runs: Mapping[str, Run]) -> dict[str, Finding]:
    """What adaptation runs of one policy say: search against adaptation, peaks, regimes."""
    protocol, samples = adapting.protocol_of(runs), adapting.pooled(runs)
    n, none = sizes(samples), Interval(math.nan, math.nan, math.nan, 0)
    found = {
        "search-beats-adaptation": beats(benefit(runs), ctl.gap(samples, protocol), n),
        "equivalent-k": worth_a_sample(_later(samples, protocol), n),
        "over-sharpening": peaks(best_steps(runs), n),
        "regimes": regimes(measured_rules(runs), n),
    }
    hard = {name: run for name, run in runs.items() if set(run.samples["task_id"]) <= set(_subset("subset_2"))}
    if hard:
        found["hard-subset"] = beats(benefit(hard), none, sizes(adapting.pooled(hard)))
    return found


def _subset(name: str) -> Sequence[int]:
    return named_selections()[name]


def best_steps(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Where each run is best: columns step, flat (whether all its steps score alike)."""
    rows = []
    for run in runs.values():
        found = metrics.trajectory(run.samples, str(run.manifest["parameters"]["protocol"]), resamples=1)
        scores = found.seeds["sample_fast_p"]
        step = int(metrics.best_of_adaptation(found)["step"].iloc[0])
        rows.append((step, bool(scores.max() - scores.min() < 1e-9)))
    return pd.DataFrame(rows, columns=["step", "flat"])


def headline() -> Finding:
    """The abstract's gap, counted in one unit on the paper's own trajectory (section 5.3)."""
    table = published.table("5.3-trajectory").iloc[:2]
    shares = table[[name for name in table.columns if name.startswith("task_")]].astype(float)
    solved, tasks = int((shares.max() > 0).sum()), shares.shape[1]
    text = f"in the paper's own trajectory {solved} of {tasks} tasks have a fast sample by step 1"
    search, best = _share("4.4/1/best_of_n_fast_1"), _share("headline/ttt-best-3-seeds/value")
    why = (
        f"Tasks are set against samples; in samples it is {number(search, '.1%')} against {number(best, '.1%')}, "
        f"in tasks {solved} of {tasks} against {tasks} of {tasks}."
    )
    return Finding(text, Outcome.ARTEFACT if solved == tasks else Outcome.UNDECIDED, why)


def benefit(runs: Mapping[str, Run]) -> Effect:
    """fast_1 per sample at step 1 less that of other seeds' step 0, which is an independent Best-of-N.

    Per task and run; step 1 is taken whether or not it is the best, so nothing is chosen by the score that is reported.
    A share of samples does not grow with how many are drawn, so the two need not be equally many.
    """
    gaps = []
    for name, run in runs.items():
        search, protocol = control(name, runs), str(run.manifest["parameters"]["protocol"])
        step = run.samples[run.samples["step"] == 1]
        if len(search) and len(step):
            gaps.append(_fast(step, protocol) - _fast(search, protocol))
    found = pd.concat(gaps) if gaps else pd.Series(dtype=float)
    return mean_effect(found.to_numpy(), found.index.to_numpy())


def _fast(samples: pd.DataFrame, protocol: str) -> pd.Series:
    view = metrics.under(samples, protocol)
    return (view["fast_limit"] > 1).groupby(view["task"]).mean()


def beats(gain: Effect, solved: Interval, n: str = "") -> Finding:
    """``gain``: fast_1 per sample, adaptation less search at equal rollouts; ``solved``: the same in tasks solved."""
    size = _share("headline/ttt-best-3-seeds/value") - _share("4.4/1/best_of_n_fast_1")
    if not gain.n:
        return Finding("no independent search", Outcome.UNDECIDED, "Other seeds' runs would be the search.", n, 0.0)
    power = _power(gain.power(size))
    outcome = by_sign(gain, -1, size)
    text = f"adaptation less search, per sample: {points(gain.interval)}"
    if not math.isnan(solved.estimate):
        text += f"; tasks solved: {points(solved)}"
    why = because(outcome, "search is ahead at equal rollouts", "search is not ahead at equal rollouts", power)
    return Finding(text, outcome, why, n, power, gain, size)


def _later(samples: pd.DataFrame, protocol: str) -> Effect:
    """fast_1 per sample, mean over adapted steps less step 0, per task and seed: no step is chosen."""
    tasks = metrics.trajectory(samples, protocol, resamples=1).tasks
    later = tasks[tasks["step"] > 0].groupby(["seed", "task"])["sample_fast_p"].mean()
    start = tasks[tasks["step"] == 0].set_index(["seed", "task"])["sample_fast_p"]
    change = (later - start).dropna()
    return mean_effect(change.to_numpy(), change.index.get_level_values("task").to_numpy())


def worth_a_sample(change: Effect, n: str = "") -> Finding:
    """``change``: fast_1 per sample of adapted steps less that of step 0, the same policy before it moved."""
    size = _share("headline/ttt-best-3-seeds/value") - _share("4.4/1/best_of_n_fast_1")
    outcome, power = by_sign(change, -1, size), _power(change.power(size))
    no = "a sample of an adapted checkpoint is worth no less than one of the unadapted policy"
    why = because(
        outcome, "a sample of an adapted checkpoint is worth less than one of the unadapted policy", no, power
    )
    return Finding(f"adapted steps less step 0: {points(change.interval)}", outcome, why, n, power, change, size)


def _most(successes: float, n: float) -> Outcome:
    """Whether more than half, beyond Wilson's interval."""
    share = wilson(successes, n)
    if share.low > 0.5:
        return Outcome.REPLICATED
    return Outcome.NOT_REPLICATED if share.high < 0.5 else Outcome.UNDECIDED


def peaks(worth: pd.DataFrame, n: str = "") -> Finding:
    """``worth``: `best_steps` of the runs. Most must peak early, or must not, beyond their interval."""
    moving = worth[~worth["flat"]]
    early, runs = int(moving["step"].isin(EARLY).sum()), len(moving)
    text = f"{early} of {plural(runs, 'run')} whose steps differ are best at step 1 or 2"
    outcome = _most(early, runs)
    power = _power(count_power(PEAKS_SHARE, runs, lambda k: _most(k, runs) is Outcome.REPLICATED))
    yes, no = "most runs peak early", "most runs do not peak at step 1 or 2"
    return Finding(text, outcome, because(outcome, yes, no, power), n, power)


def diversity(runs: Mapping[str, Run]) -> Finding:
    """Whether rollouts become less diverse, for chapter 1."""
    return collapse(div.diversity(adapting.pooled(runs), adapting.protocol_of(runs))[1])


def collapse(changes: pd.DataFrame) -> Finding:
    """``changes``: ``trajectories_diversity.diversity``'s second table. Measures that disagree decide nothing."""
    less, more = int(changes["less"].sum()), int(changes["more"].sum())
    text = f"of {len(changes)} measures of diversity {less} fall beyond their interval and {more} rise"
    if less and not more:
        return Finding(text, Outcome.REPLICATED)
    return Finding(text, Outcome.NOT_REPLICATED if more and not less else Outcome.UNDECIDED)


def regimes(rules: Sequence[Rule], n: str = "") -> Finding:
    """The 30% rule task by task, a task's runs averaged; it must be right for most tasks beyond their interval."""
    theirs = paper_rule()
    own = f"On the paper's own table it is right for {theirs.right} of {len(theirs.tasks)} tasks."
    if not rules:
        return Finding("no independent search", Outcome.UNDECIDED, own, n, 0.0)
    rows = pd.concat([rule.tasks for rule in rules])
    right = (rows["above"] == rows["benefits"]).astype(float).groupby(rows["task"]).mean()
    text = f"right for {number(wilson(float(right.sum()), len(right)), '.0%')} of {plural(len(right), 'task')}"
    if rows["above"].nunique() < 2:
        side = "above" if rows["above"].all() else "below"
        why = f"Every task lies {side} 30%, so the threshold separates nothing. {own}"
        return Finding(text, Outcome.UNDECIDED, why, n, 0.0)
    outcome = _most(float(right.sum()), len(right))
    power = _power(count_power(1.0, len(right), lambda k: _most(k, len(right)) is Outcome.REPLICATED))
    return Finding(text, outcome, own, n, power)


def isolated(runs: Mapping[str, Run]) -> Finding:
    """Runs on one task each, read as `peaks`."""
    return peaks(best_steps(runs), sizes(adapting.pooled(runs)))


def rates(runs: Mapping[str, Run]) -> Finding:
    """The sweep: over-sharpening persists only if no rate ends at its best, beyond equal checkpoints."""
    worth = curse.curse(traj.by_rate(runs))
    worth = worth.assign(source=worth["source"].str.removeprefix("rate "))
    text = "; ".join(f"{row.source}: best at step {row.step} of {row.last_step}" for row in worth.itertuples())
    n = sizes(adapting.pooled(runs))
    rising = worth[(worth["equal"] < LEVEL) & (worth["step"] > max(EARLY)) & (worth["held_drop"] <= 0)]
    if len(rising):
        why = f"At {' and '.join(rising['source'])} the last steps are the best, beyond what equal steps would give."
        return Finding(text, Outcome.NOT_REPLICATED, why, n)
    return Finding(text, Outcome.UNDECIDED, "One run per rate: seeds and rates cannot be told apart.", n)


def compression(pairs: Mapping[str, Mapping[str, Run]]) -> Finding:
    """``pairs``: runs ``dense`` and ``sparse`` that differ in their reward alone, by name."""
    later, n = [], []
    for both in pairs.values():
        table = ctl.density(both)
        sparse = table["run"].str.contains("above")
        later.append(float(table.loc[sparse, "expected_step"].mean() - table.loc[~sparse, "expected_step"].mean()))
        n.append(sizes(both["sparse"].samples))
    effect = mean_effect(later, range(len(later)))
    text = f"best step under the sparse reward less under the dense one: {number(effect.interval, '+.1f')}"
    outcome, power = by_sign(effect, 1), _power(effect.power(1.0))
    why = f"{plural(len(pairs), 'pair')} of runs that differ in their reward alone."
    return Finding(text, outcome, why, n[0], power if len(pairs) > 1 else 0.0)


# -- probe, transfer, self-distillation --------------------------------------------------------------------------


def of_probe(found: probing.Material) -> dict[str, Finding]:
    """What one probe says: whether rho deepens, and whether that is anti-calibration."""
    changes, n = probing.changes(found), sizes(found.probe.samples)
    return {"rho-deepens": deepens(changes, n), "anti-calibration": anti_calibration(changes, n)}


def deepens(changes: pd.DataFrame, n: str = "") -> Finding:
    """``changes``: ``probing.changes``. Pooled over all samples with failures as 0, the paper's way."""
    mask = (changes["set"] == Quarter.ALL.value) & (changes["analysis"] == probing.ANALYSES[0])
    row = changes[mask].iloc[0]
    effect = of_interval(row["change"])
    size = _share("5.3b-probe/all-step-8/rho") - _share("5.3b-probe/all-step-0/rho")
    outcome = by_sign(effect, -1, size)
    if row["samples"] >= ALPHA:
        outcome = Outcome.UNDECIDED
    power = _power(effect.power(size))
    why = because(outcome, "ρ falls", "ρ does not fall", power)
    return Finding(f"change of ρ: {number(row['change'], '+.2f')}", outcome, why, n, power, effect, size)


def anti_calibration(changes: pd.DataFrame, n: str = "") -> Finding:
    """``changes``: ``probing.changes``. Confidence in slow samples is a rising rho; all readings have to agree.

    The paper's rho falls, which says the opposite of its sentence: without a rise here the claim is a misread sign.
    """
    rows = changes[changes["set"] == Quarter.ALL.value]
    states = {moved(row) for _, row in rows.iterrows()}
    within = rows[rows["analysis"] == "within task"]
    told = "; ".join(f"{row['reading']} {number(row['change'], '+.2f')}" for _, row in within.iterrows())
    text = f"change of ρ within tasks: {told}"
    if states == {selecting_words.Finding.MORE}:
        return Finding(text, Outcome.REPLICATED, "ρ rises in every reading.", n)
    if _share("5.3b-probe/all-step-8/rho") < _share("5.3b-probe/all-step-0/rho"):
        why = "A ρ(NLL, speedup) that falls means that confidence ranks better: the paper's numbers say the opposite."
        return Finding(text, Outcome.ARTEFACT, why, n)
    against = states == {selecting_words.Finding.LESS}
    return Finding(text, Outcome.NOT_REPLICATED if against else Outcome.UNDECIDED, "", n)


def transfer(found: Direction) -> Finding:
    """Adapted checkpoints less the base on tasks that they were not adapted to, per sample."""
    base = _fast(found.samples("base"), found.protocol)
    effects = {name: _paired(_fast(found.samples(name), found.protocol), base) for name in found.steps}
    if not effects:
        return Finding("the best step is the base", Outcome.UNDECIDED, "No adapted checkpoint was judged.", "", 0.0)
    paper = published.table("5.5-transfer")
    direction = found.name if found.name in paper.index else paper.index[0]
    size = float(paper.at[direction, "fast_1"]) - float(paper.at[direction, "base"])
    outcomes = {by_sign(effect, -1, size) for effect in effects.values()}
    outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.UNDECIDED
    power = min(_power(effect.power(size)) for effect in effects.values())
    parts = [f"{CONDITIONS[name]} less base {points(effect.interval)}" for name, effect in effects.items()]
    why = because(outcome, "adaptation costs on other tasks", "no such loss on other tasks", power)
    n = sizes(found.judged.samples[found.judged.samples["seed"] == found.seed])
    least = min(effects.values(), key=lambda effect: _power(effect.power(size)))
    return Finding(f"{shown_name(found.name)}: {'; '.join(parts)}", outcome, why, n, power, least, size)


def _paired(first: pd.Series, second: pd.Series) -> Effect:
    difference = (first - second).dropna()
    return mean_effect(difference.to_numpy(), difference.index.to_numpy())


def feedback(families: distilling_results.Families) -> Finding:
    """Feedback less prompt-only at adapted steps, less what the two differ by in the rollouts that they share."""
    protocol = distilling_results.protocols(families)[-1]
    table = distilling_results.paired(families, protocol)
    later = table[table["step"] > 0].groupby(["seed", "task"])["fast"].mean()
    net = (later - table[table["step"] == 0].set_index(["seed", "task"])["fast"]).dropna()
    effect = mean_effect(net.to_numpy(), net.index.get_level_values("task").to_numpy())
    size = _share("E.1/sdpo-feedback/mean") - _share("E.1/sdpo-prompt-only/mean")
    outcome = Outcome.REPLICATED if effect.below(MARGIN) else Outcome.UNDECIDED
    if effect.sign > 0:
        outcome = Outcome.NOT_REPLICATED
    power = _power(effect.power(MARGIN - size))
    yes, no = f"a lift of {100 * MARGIN:.0f} points is excluded", "feedback lifts"
    n = sizes(distilling_results.together(families[distilling_results.FEEDBACK]))
    text = f"feedback less prompt-only: {points(effect.interval)}"
    return Finding(text, outcome, because(outcome, yes, no, power), n, power, effect, MARGIN - size)


def doubled(families: distilling_results.Families) -> Finding:
    """Teacher tokens beside student tokens of the feedback runs."""
    compute = [run.compute for run in families[distilling_results.FEEDBACK].values()]
    student, teacher = (sum(each[name] for each in compute) for name in ("student_tokens", "teacher_tokens"))
    ratio = (student + teacher) / student
    outcome = Outcome.REPLICATED if round(ratio) == 2 else Outcome.NOT_REPLICATED
    text = f"{number(ratio, '.2f')} times the student's tokens"
    return Finding(
        text, outcome, "A count, not an estimate; how much a teacher reads depends on the feedback's length."
    )
