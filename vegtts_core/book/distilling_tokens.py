"""Token advantages of self-distilled runs, as their steps recorded them: tables and figures of chapter 3.4.

It reads `vegtts_core.training.distillation_record`'s objects and needs no model. Runs of an older version have none;
then the tables are empty and the figures say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis, grouped_intervals
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

FEEDBACK, PROMPT_ONLY = "feedback", "prompt-only"
MONOSPACED = "Liberation Mono, DejaVu Sans Mono, monospace"
CHARACTER = 6.6
"""Width of one in pixels at font size 11."""
LINE = 86
"""Characters after which a line of code is broken."""
NEARLY = 0.05
"""Nats below which a token is neither wanted nor not."""
STRONGEST = 4.0
"""Nats at which the colour of a token is full."""

STEP_COLUMNS = {
    "teacher": Column("teacher"),
    "seed": Column("seed", ".0f"),
    "step": Column("step", ".0f"),
    "rollouts": Column("rollouts", ",.0f"),
    "tokens": Column("tokens", ",.0f"),
    "mean": Column("mean", ".3f", "nats", "advantage per token"),
    "mean_size": Column("mean size", ".3f", "nats", "advantage per token"),
    "positive": Column("above 0", ".0%", group="advantage per token"),
    "correct": Column("correct rollouts", ".2f", "nats", "per completion"),
    "wrong": Column("wrong rollouts", ".2f", "nats", "per completion"),
}


def records(run: Run) -> list[tuple[int, dict[str, Any]]]:
    """(step, record) of every step that has one."""
    if "distillation" not in run.steps:
        return []
    pairs = zip(run.steps["step"], run.steps["distillation"], strict=True)
    return [(int(step), record) for step, record in pairs if isinstance(record, dict)]


def step_table(families: Mapping[str, Mapping[str, Run]]) -> pd.DataFrame:
    """One row per family (a teacher), seed and step: columns of ``STEP_COLUMNS``."""
    rows = []
    for teacher, runs in families.items():
        for run in runs.values():
            for step, record in records(run):
                row = {"teacher": teacher, "seed": run.manifest["parameters"]["seed"], "step": step}
                row |= {name: record["all"][name] for name in ("rollouts", "tokens", "mean", "mean_size", "positive")}
                rows.append(row | {name: record[name]["sum"] for name in ("correct", "wrong")})
    return pd.DataFrame(rows, columns=list(STEP_COLUMNS))


def outcome_sums(families: Mapping[str, Mapping[str, Run]]) -> pd.DataFrame:
    """What a teacher makes of whole completions by outcome: ``teacher``, ``outcome``, ``sum`` (nats), bounds, ``n``.

    Over all steps and seeds; bounds are two standard errors with rollouts as independent, which they are not quite.
    """
    rows = []
    for teacher, runs in families.items():
        found = [record for run in runs.values() for _, record in records(run)]
        for outcome in ("correct", "wrong"):
            total = pooled([record[outcome] for record in found])
            if total.n:
                row = (teacher, f"{outcome} rollouts", total.estimate, total.low, total.high, total.n)
                rows.append(row)
    return pd.DataFrame(rows, columns=["teacher", "outcome", "sum", "low", "high", "n"])


def pooled(parts: Sequence[Mapping[str, Any]]) -> Interval:
    """Mean over rollouts of several summaries' ``sum``, with two standard errors; n counts rollouts."""
    known = [part for part in parts if part["sum"] is not None]
    count = sum(part["rollouts"] for part in known)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = sum(part["sum"] * part["rollouts"] for part in known) / count
    square = sum((part["sum_std"] ** 2 + part["sum"] ** 2) * part["rollouts"] for part in known) / count
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    error = 2 * math.sqrt(max(0.0, square - mean**2) / (count - 1))
    return Interval(mean, mean - error, mean + error, count)


def separation(families: Mapping[str, Mapping[str, Run]], teacher: str) -> Interval:
    """Correct less wrong rollouts' mean sum, nats, with two standard errors; n counts rollouts, 0 without a record."""
    found = [record for run in families.get(teacher, {}).values() for _, record in records(run)]
    correct, wrong = (pooled([record[outcome] for record in found]) for outcome in ("correct", "wrong"))
    difference = correct.estimate - wrong.estimate
    error = math.hypot(correct.high - correct.estimate, wrong.high - wrong.estimate)
    return Interval(difference, difference - error, difference + error, correct.n + wrong.n)


def per_token(families: Mapping[str, Mapping[str, Run]], teacher: str, outcome: str) -> float:
    """Mean advantage of a token in rollouts of ``outcome``, nats; NaN without any."""
    parts = [record[outcome] for run in families.get(teacher, {}).values() for _, record in records(run)]
    count = sum(part["tokens"] for part in parts)
    return sum(part["mean"] * part["tokens"] for part in parts if part["tokens"]) / count if count else math.nan


def figure_sums(families: Mapping[str, Mapping[str, Run]]) -> alt.LayerChart:
    """What each teacher makes of correct and wrong completions."""
    frame = outcome_sums(families)
    if frame.empty:
        return note("These runs were recorded without token advantages.")
    value = Axis("sum", "log p of the teacher less that of the student, per completion (nats)", ".2~f")
    return grouped_intervals(frame, "teacher", "outcome", value, "low", "high", reference=0.0, group_title="")


def example_of(run: Run) -> dict[str, Any] | None:
    """The first rollout that the run's first record keeps token by token; None without a record."""
    for _, record in records(run):
        if record["rollouts"]:
            return record["rollouts"][0]
    return None


def token_places(tokens: Sequence[str], advantages: Sequence[float], width: int = LINE) -> pd.DataFrame:
    """Where each token stands when its text is written out: ``line``, ``start``, ``end`` (characters), ``text``.

    A token that holds a line break has one row per line; lines break after ``width`` characters. ``advantage`` in nats.
    """
    rows, line, column = [], 0, 0
    for token, advantage in zip(tokens, advantages, strict=True):
        for index, part in enumerate(token.split("\n")):
            if index:
                line, column = line + 1, 0
            if column and column + len(part) > width:
                line, column = line + 1, 4
            # An empty token (half of a character) still has an advantage: it takes the place of a sign.
            text = part if part or "\n" in token else "·"
            if text:
                inner = text.lstrip(" ")
                at = column + len(text) - len(inner)
                rows.append((line, column, column + len(text), at, inner.rstrip(" "), advantage, token))
            column += len(text)
    return pd.DataFrame(rows, columns=["line", "start", "end", "at", "text", "advantage", "token"])


def figure_tokens(example: Mapping[str, Any] | None) -> alt.LayerChart:
    """The completion as it was written, each token on a ground that says its advantage."""
    if example is None:
        return note("This run was recorded without token advantages.")
    places = token_places(example["tokens"], example["advantages"])
    places["line"] -= places["line"].min()
    lines, width = int(places["line"].max()) + 1, max(int(places["end"].max()), 40)
    places["top"], places["bottom"] = places["line"], places["line"] + 1
    across = alt.Scale(domain=[0, width], nice=False)
    down = alt.Scale(domain=[lines, 0], nice=False)
    scale = alt.Scale(
        domain=[-STRONGEST, 0, STRONGEST], range=["#f0a070", "#ffffff", "#7fb8e6"], clamp=True, interpolate="rgb"
    )
    legend = alt.Legend(title="advantage (nats)", gradientLength=200, values=[-STRONGEST, 0, STRONGEST])
    base = alt.Chart(places).encode(tooltip=["token:N", alt.Tooltip("advantage:Q", format="+.2f", title="advantage")])
    ground = base.mark_rect(stroke="#ffffff", strokeWidth=0.5).encode(
        x=alt.X("start:Q", scale=across, axis=None),
        x2="end:Q",
        y=alt.Y("top:Q", scale=down, axis=None),
        y2="bottom:Q",
        color=alt.Color("advantage:Q", scale=scale, legend=legend),
    )
    text = (
        base.transform_calculate(middle="datum.top + 0.5")
        .mark_text(align="left", baseline="middle", font=MONOSPACED, fontSize=11, color=theme.TEXT)
        .encode(x=alt.X("at:Q", scale=across, axis=None), y=alt.Y("middle:Q", scale=down, axis=None), text="text:N")
    )
    return alt.layer(ground, text).properties(width=CHARACTER * width, height=19 * lines)


def note(text: str) -> alt.LayerChart:
    """A picture that says why there is none."""
    data = pd.DataFrame({"text": [text]})
    mark = alt.Chart(data).mark_text(color=theme.MUTED).encode(text="text:N")
    return alt.layer(mark).properties(width=theme.WIDTH, height=40)


def added_tokens(run: Run) -> float:
    """Tokens per rollout that the teacher's context has beyond the student's prompt; NaN without any update."""
    made = run.steps[run.steps["teacher_tokens"] > 0]
    if made.empty:
        return math.nan
    return float((made["teacher_tokens"] - made["student_tokens"]).sum() / made["rollouts"].sum())


def strongest(example: Mapping[str, Any] | None, count: int = 3) -> str:
    """The tokens that the teacher would have least and most, in words; a dash without a record."""
    if example is None:
        return number(None)
    pairs = sorted(zip(example["advantages"], example["tokens"], strict=True))

    def shown(chosen: Sequence[tuple[float, str]]) -> str:
        texts = (token.replace("\n", "⏎").strip() or "a blank" for _, token in chosen)
        return ", ".join(f"“{text}” ({number(value, '+.1f')})" for text, (value, _) in zip(texts, chosen, strict=True))

    least = [pair for pair in pairs[:count] if pair[0] <= -NEARLY]
    most = [pair for pair in pairs[: -count - 1 : -1] if pair[0] >= NEARLY]
    return f"least wanted {shown(least) or 'none'}; most wanted {shown(most) or 'none'}"
