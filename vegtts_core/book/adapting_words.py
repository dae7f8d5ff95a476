"""The sentences of chapter 3.3 that depend on the data: what a step did, and which checkpoint a rule takes.

Pure functions of the tables of ``adapting``, ``adapting_step`` and ``adapting_budget``, so that a chapter run on other
data says what those data say. It computes no statistics beyond what a sentence needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import pandas as pd

from vegtts_core.book import adapting, adapting_budget, adapting_step, published
from vegtts_core.book.prose import number
from vegtts_core.runs import Run
from vegtts_core.statistics import wilson


def facts(runs: Mapping[str, Run], step: int = 0) -> dict[str, str]:
    """Numbers and sentences that the chapter's prose holds, by name."""
    run = next(iter(runs.values()))
    rows = adapting_step.judged(run, step)
    paper = published.table("A")["value"]
    return adapting.run_facts(runs) | {
        "paper-k": str(paper["ttt.k"]),
        "paper-tasks": str(paper["ttt.tasks_per_step"]),
        "paper-per-step": str(int(paper["ttt.k"]) * int(paper["ttt.tasks_per_step"])),
        "paper-rate": str(paper["ttt.learning_rate"]),
        "paper-n": str(paper["best_of_n.k"]),
        "paper-step-1": str(paper["ttt.step_1_rollouts"]),
        "paper-step-0": number(int(published.value("5.3-trajectory/0/rollouts")), "d"),
        "seed": str(run.manifest["parameters"]["seed"]),
        "shown": str(step),
        "next": str(step + 1),
        "silent": silent(adapting_step.groups(rows)),
        "norm-limit": number(run.manifest["parameters"]["update"]["max_grad_norm"]),
        "scope": str(run.manifest["parameters"]["advantages"]["scope"]),
        "per-rollout-1": number(_per_rollout("rlvr-base"), ",.0f"),
        "per-rollout-64": number(_per_rollout("best-of-n"), ",.0f"),
        "machine-time": seconds(run),
    }


def _per_rollout(row: str) -> float:
    table = published.table("C.1")
    return float(table.at[row, "student_tokens"] / table.at[row, "rollouts"])


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def silent(groups: pd.DataFrame) -> str:
    """Which groups of a step have no gradient of their own."""
    names = [f"task {task}" for task in groups.loc[groups["silent"], "task_id"]]
    if not names:
        return "Here every group has a gradient."
    zero = groups.loc[groups["silent"], "correct"].eq(0).all()
    why = "none of their rollouts is correct" if zero else "their rollouts are all worth the same"
    if len(names) == 1:
        why = why.replace("their", "its")
    return f"Here {_listed(names)} {'gives' if len(names) == 1 else 'give'} none: {why}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def scopes(rows: pd.DataFrame) -> str:
    """What the choice of scope does to this step's advantages."""
    table = adapting_step.groups(rows)
    sides = []
    for scope in adapting_step.SCOPES:
        down = int(table[f"down_{scope}"].sum())
        sides.append(f"over the {scope} {plural(down, 'correct rollout')} pushed down")
    turned = adapting_step.turned(rows)
    quiet = table[table["silent"]]
    pushed = int((quiet["best_batch"] != 0).sum())
    text = f"{sides[0].capitalize()}, {sides[1]}, of {int(table['correct'].sum())}."
    return (
        f"{text} {plural(turned, 'rollout')} of {len(rows)} change sign; {plural(pushed, 'silent group')} get a push."
    )


def scopes_verdict(rows: pd.DataFrame) -> str:
    """Whether the batch's scope punishes tasks for being slow or hard, in this step."""
    table = adapting_step.groups(rows)
    heard = table[~table["silent"]]
    whole = table[(table["best_batch"] < 0) & (table["correct"] > 0)]
    pushed = table[table["silent"] & (table["best_batch"] != 0)]
    parts = []
    if heard.empty:
        return "No group of this step has rollouts that differ in reward: over the group nothing would move."
    if len(whole):
        parts.append(
            f"Over the batch even the best rollout of {_listed([f'task {t}' for t in whole['task_id']])} is pushed down"
        )
    if len(pushed):
        tasks = _listed([f"task {t}" for t in pushed["task_id"]])
        parts.append(f"over the batch every rollout of {tasks} is pushed alike, which says nothing about which to keep")
    turned = adapting_step.turned(rows)
    if not parts:
        parts.append(
            f"In this step the two scopes push {turned} of {len(rows)} rollouts in opposite directions"
            if turned
            else "In this step the two scopes push every rollout the same way, with other weights"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def update_text(table: pd.DataFrame, step: int) -> str:
    """Loss, gradient norm and clipping of one update."""
    row = table[table["step"] == step].iloc[0]
    if isnan(row["recorded"]):
        return f"Step {step} made no update."
    clipped = "clipped" if row["clipped"] == "yes" else "not clipped"
    return (
        f"Loss {number(row['recorded'], '+.4f')} (from the rollouts: {number(row['computed'], '+.4f')}), gradient norm "
        f"{number(row['norm'], '.3f')} ({clipped})."
    )


def loss_verdict(table: pd.DataFrame) -> str:
    """Whether the recorded losses are what the rollouts say they must be."""
    same, known = adapting_step.agrees(table)
    if not known:
        return "The loss of this objective cannot be had from the rollouts alone."
    if same == known:
        return (
            f"In {same} of {plural(known, 'update')} the recorded loss is minus the mean advantage over tokens. It "
            "says whether good completions are long or short, and nothing of how good the policy is."
        )
    return f"In {same} of {known} updates the recorded loss is minus the mean advantage over tokens; in the others not."


def changed_text(table: pd.DataFrame) -> str:
    """The last row of `adapting_step.changed` as text."""
    row = table.iloc[-1]
    parts = []
    for name, label in (("correct", "correct"), ("fast", "fast"), ("up", "copies of candidates that were pushed up")):
        parts.append(f"{label} {int(row[f'{name}_before'])} → {int(row[f'{name}_after'])}")
    return f"{', '.join(parts)}, of {int(row['rollouts'])} rollouts each."


def changed_verdict(table: pd.DataFrame) -> str:
    """Whether the share of rollouts that copy what was pushed up has risen by more than a new draw may."""
    row = table.iloc[-1]
    n, before, after = int(row["rollouts"]), int(row["up_before"]), int(row["up_after"])
    if not before:
        return "No candidate was pushed up in this step: there is nothing whose share could rise."
    one, two = wilson(before, n), wilson(after, n)
    apart = one.high < two.low or two.high < one.low
    way = "more" if after > before else "less" if after < before else "as"
    often = "as often as" if way == "as" else f"{way} often than"
    tail = (
        "the two shares' intervals do not overlap"
        if apart
        else "the two shares' intervals overlap, and a candidate was pushed up *because* it had been drawn"
    )
    return (
        f"What was pushed up is drawn {often} before ({number(one, '.0%')} → {number(two, '.0%')}, Wilson's, rollouts "
        f"taken as independent); {tail}. {plural(int(row['new_after']), 'rollout')} then are candidates that the step "
        "before did not have."
    )


# -- checkpoints -------------------------------------------------------------------------------------------------


def misfiled_text(table: pd.DataFrame, paper: bool) -> str:
    """What the letter of algorithm 1 returns, for the paper's trajectory or for the runs here."""
    rows = table[(table["source"] == adapting.PAPER) == paper]
    parts = []
    for row in rows.to_dict("records"):
        if row["printed_step"] == row["step"]:
            parts.append(f"{row['source']}: step {row['step']} either way")
        else:
            filed, own = number(row["filed"], ".1%"), number(row["own"], ".1%")
            score = f"{own} as well" if own == filed else f"{own} and not {filed}"
            parts.append(f"{row['source']}: step {row['printed_step']} in place of {row['step']}, which scores {score}")
    return "; ".join(parts) + "."


def misfiled_verdict(table: pd.DataFrame) -> str:
    """How often the two readings differ here, and by how much the returned checkpoint is worse."""
    rows = table[table["source"] != adapting.PAPER]
    differ = rows[rows["printed_step"] != rows["step"]]
    if differ.empty:
        return "Here both readings return the same checkpoint, by luck: nothing in the letter makes them."
    lost = float(differ["lost"].mean())
    way = "lower" if lost < 0 else "higher" if lost > 0 else "no lower"
    size = f" by {number(abs(100 * lost), '.1f')} points" if lost else ""
    return (
        f"In {len(differ)} of {plural(len(rows), 'run')} here the letter returns another checkpoint than the one that "
        f"was best; its own score is {way}{size} on average."
    )


def stops_text(table: pd.DataFrame, patience: int = 1) -> str:
    """How often early stopping returns a step as good as the argmax, what it loses and saves."""
    if table.empty:
        return "no trajectory"
    same = int((table[f"lost_{patience}"] == 0).sum())
    worst = float(table[f"lost_{patience}"].max())
    text = f"{same} of {plural(len(table), 'trajectory').replace('trajectorys', 'trajectories')} as good as the argmax"
    if worst > 0:
        text += f", at worst {number(100 * worst, '.1f')} points below it"
    return f"{text}; {number(float(table[f'saved_{patience}'].mean()), '.1f')} steps saved on average{_flat(table)}"


def _flat(table: pd.DataFrame) -> str:
    """How many of `adapting.stops`' trajectories never leave their first score, where any rule is right."""
    flat = int(table["flat"].sum())
    return f"; {flat} of them {'is' if flat == 1 else 'are'} flat, where no rule can be wrong" if flat else ""


def stops_verdict(paper: pd.DataFrame, here: pd.DataFrame) -> str:
    """Whether P = 1 returned the argmax everywhere, in the paper's own tables and here."""
    failed = [str(row["source"]).removeprefix("paper, ") for row in paper.to_dict("records") if row["lost_1"] > 0]
    text = "In the paper's own tables P = 1 "
    text += "always returns a best step." if not failed else f"misses the best step of {_listed(failed)}."
    ours = int((here["lost_1"] > 0).sum())
    if not len(here):
        return text
    text += f" Here it misses in {ours} of {len(here)}." if ours else f" Here it misses in none of {len(here)}."
    return f"{text} A best step that is chosen by its own score is no oracle: section 5.3 asks what it is worth."


# -- budgets -----------------------------------------------------------------------------------------------------


def seconds(run: Run) -> str:
    """Where a run's time went: ``sampling 50%, evaluation 30%, updates 20%``."""
    names = {"sampling": "sampling_seconds", "evaluation": "evaluation_seconds", "updates": "update_seconds"}
    total = float(run.compute["wall_seconds"])
    if not total:
        return "no time recorded"
    return ", ".join(f"{label} {number(float(run.compute[name]) / total, '.0%')}" for label, name in names.items())


def budget_text(runs: Mapping[str, Run]) -> str:
    """Our side of the comparison at equal rollouts."""
    found = adapting_budget.here(runs)
    if found is None:
        return adapting_budget.reason(runs)
    table = found.set_index("quantity")
    tokens, time = table.loc["total_tokens"], table.loc["wall_seconds"]
    return (
        f"{int(table.at['rollouts', 'search'])} rollouts each; tokens {number(tokens['search'], ',.0f')} against "
        f"{number(tokens['adaptation'], ',.0f')}; {number(time['search'], ',.0f')} s against "
        f"{number(time['adaptation'], ',.0f')} s."
    )


def budget_verdict(runs: Mapping[str, Run]) -> str:
    """What equal rollouts leave unequal here."""
    found = adapting_budget.here(runs)
    if found is None:
        return "Refused rather than estimated."
    ratio = found.set_index("quantity")["ratio"]
    tokens, time = float(ratio["total_tokens"]), 1 / float(ratio["wall_seconds"])
    return (
        f"Equal in rollouts by construction. Search uses {number(tokens, '.2f')} times the tokens, adaptation "
        f"{number(time, '.2f')} times the time: updates are not rollouts, and equal candidates are evaluated once, "
        "which helps whoever repeats itself."
    )
