"""The sentences of appendix E.2 that depend on the data, and the numbers that its prose mentions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from vegtts_core.book import distilling_paper as paper
from vegtts_core.book import distilling_results as results
from vegtts_core.book import published
from vegtts_core.book.distilling_results import ADAPTED, CONTROL, FEEDBACK, NET, PROMPT_ONLY, Families
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import Finding, finding, points
from vegtts_core.statistics import Interval
from vegtts_core.tasks.load import named_selections

SUBSET = 5


def facts(families: Families, names: Sequence[str]) -> dict[str, str]:
    """What the prose of appendix E.2 mentions, by name."""
    run = next(iter(families[FEEDBACK].values()))
    parameters = run.manifest["parameters"]
    gap = paper.paper_gap()
    speedups = published.table("D.1").loc["sdpo-prompt-only"]
    splits = {seed: ", ".join(str(t) for t in _evaluated(seed)) for seed in (42, 43, 44)}
    start = float(published.value("5.3-trajectory/0/fast_1"))
    same = results.same_rollouts(families)
    return {
        "k": str(parameters["k"]),
        "tasks": str(run.samples["task"].nunique()),
        "updates": str(parameters["steps"]),
        "seeds": ", ".join(str(r.manifest["parameters"]["seed"]) for r in families[FEEDBACK].values()),
        "temperature": number(parameters["temperature"]),
        "protocols": " and ".join(names),
        "same": number(same, ".0%"),
        "paper-step": str(paper.PAPER_STEP),
        "paper-rollouts": number(published.value("C.1/sdpo-feedback/rollouts"), ".0f"),
        "paper-gap": number(100 * gap.gap, ".1f"),
        "paper-counts": f"{gap.counts[1]} against {gap.counts[0]} of {gap.n}",
        "paper-p": number(gap.rollouts, ".2f"),
        "paper-sign": number(gap.sign, ".2f"),
        "paper-t": number(gap.seeds, ".3f"),
        "paper-power": number(results.power(sum(gap.counts) / (2 * gap.n), gap.n, gap.gap), ".0%"),
        "paper-agree": number(gap.agree, ".0%"),
        "paper-start": number(start, ".1%"),
        "paper-start-count": str(round(start * paper.PAPER_STEP)),
        "paper-42-count": str(round(paper.PAPER_STEP * float(published.value("E.1/sdpo-prompt-only/seed_42")))),
        "paper-search": number(published.value("headline/subset-1-best-of-n-per-sample/value"), ".1%"),
        "paper-boa": number(published.value("headline/ttt-best-3-seeds/value"), ".1%"),
        "paper-prompt-only": number(published.value("E.1/sdpo-prompt-only/mean"), ".1%"),
        "paper-feedback": number(published.value("E.1/sdpo-feedback/mean"), ".1%"),
        "paper-speedup-42": number(float(speedups["seed_42"]), "{:.1f}×"),
        "paper-speedup-43": number(float(speedups["seed_43"]), "{:.2f}×"),
        **{f"split-{seed}": text for seed, text in splits.items()},
    }


def _evaluated(seed: int) -> list[int]:
    return list(named_selections()[f"l1_seed{seed}_eval"][:SUBSET])


def difference_table(table: pd.DataFrame) -> pd.DataFrame:
    """``results.differences`` with its intervals as text, in points."""
    return table.assign(difference=[points(found) for found in table["interval"]])


def control_text(table: pd.DataFrame, names: Sequence[str]) -> str:
    """What two runs differ by in the rollouts that they share."""
    found = {name: results.difference(table, f"fast_1, {name}", CONTROL) for name in names}
    parts = [f"{name} fast_1 {points(interval)}" for name, interval in found.items()]
    return f"Step 0, the same rollouts, feedback less prompt-only: {'; '.join(parts)}."


def control_verdict(table: pd.DataFrame, names: Sequence[str], same: float) -> str:
    """Whether the clock alone separates the two runs."""
    if math.isnan(same):
        return "No seed is in both families: nothing is paired here."
    if same < 1 - 1e-9:
        share = number(same, ".0%")
        return f"Only {share} of step 0's rollouts are the same in both: this is no pure measure of the clock."
    found = {name: results.difference(table, f"fast_1, {name}", CONTROL).estimate for name in names}
    worst = max(found, key=lambda name: abs(found[name]))
    if abs(found[worst]) < 1e-12:
        return "The two runs' clocks agreed: the same rollouts have the same scores."
    text = "; ".join(f"{name} {abs(100 * value):.1f} points" for name, value in found.items())
    return (
        f"Identical code, timed in two runs, differs by as much as this ({text}): whoever reads a gap has to beat that."
    )


def lift_text(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Feedback less prompt-only after adaptation, each measure, and less what they differ by at step 0."""
    measures = [*(f"fast_1, {name}" for name in names), "correct"]
    parts = []
    for measure in measures:
        later, net = (results.difference(table, measure, step) for step in (ADAPTED, NET))
        parts.append(f"{measure}: {points(later)}; less step 0: {points(net)}.")
    return "Adapted steps. " + " ".join(parts)


def lift_verdict(table: pd.DataFrame, names: Sequence[str], smallest: float) -> str:
    """What follows for "feedback gives no lift"; ``smallest``: the gap (points) that rollouts allow to find."""
    name = names[-1]
    net = results.difference(table, f"fast_1, {name}", NET)
    found = finding(net)
    texts = {
        Finding.MORE: f"Beyond what they differ by at step 0, feedback leads here under the {name} protocol.",
        Finding.LESS: f"Beyond what they differ by at step 0, prompt-only leads here under the {name} protocol.",
        Finding.EQUAL: f"Under the {name} protocol both changed equally: no lift, and nothing to be one.",
        Finding.OPEN: f"Not decided under the {name} protocol: the interval includes 0.",
        Finding.UNKNOWN: "Not decided: one task or none allows no interval.",
    }
    text = texts[found]
    if found is not Finding.UNKNOWN and not math.isnan(smallest):
        text += f" With so few distinct candidates a gap below {smallest:.0f} points is likely to be missed."
    for other in names[:-1]:
        later, control = (results.difference(table, f"fast_1, {other}", step) for step in (ADAPTED, CONTROL))
        if finding(later) in (Finding.MORE, Finding.LESS):
            leads = "feedback" if finding(later) is Finding.MORE else "prompt-only"
            text += (
                f" By the {other} protocol alone {leads} would have won, its interval without 0; the same rollouts "
                f"already differed by {points(control)} at step 0."
            )
    correct = finding(results.difference(table, "correct", NET))
    if correct in (Finding.MORE, Finding.LESS):
        better, worse = ("feedback", "prompt-only") if correct is Finding.MORE else ("prompt-only", "feedback")
        text += f" In correctness, which needs no clock, {better} is ahead of {worse}."
    return text


def success_text(families: Families, names: Sequence[str]) -> str:
    """How much each method changed from its own step 0: correctness, and fast_1 under the last protocol."""
    parts = []
    for method, runs in families.items():
        right, fast = (results.change(runs, names[-1], column) for column in ("correctness", "sample_fast_p"))
        parts.append(f"{method}: correct {points(right)}, fast_1 {points(fast)}.")
    return f"Adapted steps less step 0 ({names[-1]} protocol). " + " ".join(parts)


def success_verdict(families: Families, names: Sequence[str]) -> str:
    """Whether prompt-only self-distillation made its policy better than it was."""
    runs = families[PROMPT_ONLY]
    right, fast = (results.change(runs, names[-1], column) for column in ("correctness", "sample_fast_p"))
    words = {
        Finding.MORE: "rose",
        Finding.LESS: "fell",
        Finding.EQUAL: "did not move",
        Finding.OPEN: "moved by no more than tasks scatter",
        Finding.UNKNOWN: "cannot be judged with one task",
    }
    if finding(right) is finding(fast):
        text = f"With prompt-only, correctness and fast_1 {words[finding(right)]}."
    else:
        text = f"With prompt-only, correctness {words[finding(right)]} and fast_1 {words[finding(fast)]}."
    success = Finding.MORE in (finding(right), finding(fast))
    return f"{text} {_beside(families, names)} " + (
        "A gain without any outcome is that of one sentence, and has to be held against it."
        if success
        else "That a score stays near the starting policy's is no success of learning."
    )


def _beside(families: Families, names: Sequence[str]) -> str:
    found = {m: results.change(runs, names[-1], "correctness") for m, runs in families.items() if m != PROMPT_ONLY}
    known = {method: value for method, value in found.items() if not math.isnan(value.estimate)}
    return "Correctness changed by " + ", ".join(f"{points(v)} ({m})" for m, v in known.items()) + "."


def diversity_text(table: pd.DataFrame) -> str:
    """Entropy over candidates of the first and the last step, per method."""
    parts = []
    for method, part in table[table["measure"] == "entropy"].groupby("method", sort=False):
        ordered = part.sort_values("step")
        first, last = (Interval(r["estimate"], r["low"], r["high"], r["tasks"]) for r in _ends(ordered))
        parts.append(f"{method} {number(first, '.2f')} to {number(last, '.2f')}")
    return "Entropy over candidates, step 0 to the last: " + "; ".join(parts) + " nats."


def _ends(ordered: pd.DataFrame) -> list[dict[str, float]]:
    rows = ordered.to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in (rows[0], rows[-1])]


def diversity_verdict(table: pd.DataFrame) -> str:
    """Whose distribution over candidates narrowed."""
    change = {}
    for method, part in table[table["measure"] == "entropy"].groupby("method", sort=False):
        ordered = part.sort_values("step")["estimate"].to_numpy()
        change[str(method)] = float(ordered[-1] - ordered[0])
    down = [method for method, value in change.items() if value < 0]
    if not down:
        return "In none of them did the candidates become fewer: there is no collapse to explain."
    if len(down) == len(change):
        return "All narrowed, whatever their signal was; intervals over so few tasks overlap."
    up = [method for method in change if method not in down]
    return f"Narrowed: {', '.join(down)}; not: {', '.join(up)}. Intervals over so few tasks overlap."
