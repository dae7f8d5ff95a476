"""The sentences of chapter 3.4 that depend on the data, and the numbers that its prose mentions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vegtts_core.book import distilling_tokens as tokens
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

Families = Mapping[str, Mapping[str, Run]]


def published_added(method: str, rounding: float = 500.0) -> Interval:
    """Tokens per rollout that table C.1's teacher has beyond the student, within what rounding allows."""
    row = published.table("C.1").loc[method]
    count = float(row["rollouts"])
    estimate = float(row["teacher_tokens"] - row["student_tokens"]) / count
    return Interval(estimate, estimate - 2 * rounding / count, estimate + 2 * rounding / count, int(count))


def facts(feedback: Mapping[str, Run], prompt_only: Mapping[str, Run]) -> dict[str, str]:
    """What the prose of chapter 3.4 mentions, by name."""
    some = next(iter(feedback.values()))
    parameters = some.manifest["parameters"]
    steps = [run.manifest["parameters"]["steps"] for run in feedback.values()]
    closing = published_added("sdpo-prompt-only")
    return {
        "seeds": ", ".join(str(run.manifest["parameters"]["seed"]) for run in feedback.values()),
        "runs": f"{len(feedback) + len(prompt_only)}",
        "k": str(parameters["k"]),
        "tasks": str(some.samples["task"].nunique()),
        "updates": " or ".join(str(value) for value in sorted(set(steps))),
        "temperature": number(parameters["temperature"]),
        "rollouts": f"{sum(len(run.samples) for run in [*feedback.values(), *prompt_only.values()]):,}",
        "policy": "SmolLM2-135M-Instruct" if some.manifest["policy"]["name"] == "embedded" else "another policy",
        "machine": f"{some.manifest['machine']['cores']} cores of {some.manifest['machine']['cpu']}",
        "paper-closing": number(closing.estimate, ".0f"),
        "paper-closing-low": number(max(0.0, closing.low), ".0f"),
        "paper-closing-high": number(closing.high, ".0f"),
        "paper-feedback": number(published_added("sdpo-feedback").estimate, ".0f"),
        "paper-prompt-only-score": number(published.value("E.1/sdpo-prompt-only/mean"), ".1%"),
        "closing": number(mean_added(prompt_only), ".1f"),
        "feedback": number(mean_added(feedback), ".0f"),
    }


def mean_added(runs: Mapping[str, Run]) -> float:
    """Tokens per rollout that the teacher's context adds, a mean over runs; NaN without any update."""
    found = [value for value in (tokens.added_tokens(run) for run in runs.values()) if not math.isnan(value)]
    return sum(found) / len(found) if found else math.nan


def example_text(example: Mapping[str, Any] | None) -> str:
    """The rollout of the figure in a sentence."""
    if example is None:
        return "These runs were recorded before token advantages were."
    kind = "correct" if example["correct"] else "wrong"
    shown = "with" if example["solution"] else "without"
    values = example["advantages"]
    return (
        f"Task {example['task'].rsplit('/', 1)[-1]}, sample {example['sample']} of the first step: {kind}, its teacher "
        f"{shown} a solution before it; {len(values)} tokens, {number(sum(values), '+.1f')} nats in all."
    )


def separation_text(families: Families) -> str:
    """Correct less wrong completions' sums, for each teacher."""
    parts = []
    for teacher in families:
        found = tokens.separation(families, teacher)
        if math.isnan(found.estimate):
            parts.append(f"{teacher}: not recorded, or rollouts of one outcome only.")
        else:
            right, wrong = (tokens.per_token(families, teacher, outcome) for outcome in ("correct", "wrong"))
            parts.append(
                f"{teacher}: {number(found, '.2f')} nats, n = {found.n:,} rollouts; per token "
                f"{number(right, '.3f')} in correct ones, {number(wrong, '.3f')} in wrong ones."
            )
    return "Correct less wrong completions, mean sum of advantages. " + " ".join(parts)


def separation_verdict(families: Families) -> str:
    """Whether a teacher likes correct completions better than wrong ones."""
    texts = {
        teacher: _direction(tokens.separation(families, teacher)) for teacher in (tokens.FEEDBACK, tokens.PROMPT_ONLY)
    }
    if set(texts.values()) == {""}:
        return "Nothing can be said without recorded advantages of both outcomes."
    parts = [f"The {teacher} teacher {text}." for teacher, text in texts.items() if text]
    text = " ".join(parts) + " Rollouts are taken as independent, which copies and common tasks make generous."
    blind = tokens.separation(families, tokens.PROMPT_ONLY)
    if blind.low > 0:
        text += (
            " A teacher that saw no outcome separates them too: on average an advantage is minus a divergence, which "
            "adds up over a long completion and is larger where the student was unsure. Separating is no proof of "
            "having read."
        )
    return text


def _direction(found: Interval) -> str:
    if math.isnan(found.low):
        return ""
    if found.low > 0:
        return "pushes correct completions up against wrong ones"
    if found.high < 0:
        return "pushes correct completions down against wrong ones"
    return "does not tell correct completions from wrong ones"


def prompt_only_text(prompt_only: Mapping[str, Run]) -> str:
    """What the measured prompt-only teacher adds, and how large its advantages are."""
    sizes = [record["all"] for run in prompt_only.values() for _, record in tokens.records(run)]
    text = f"{number(mean_added(prompt_only), '.1f')} tokens per rollout more than the student's prompt"
    if not sizes:
        return f"{text}; token advantages were not recorded."
    count = sum(part["tokens"] for part in sizes)
    mean = sum(part["mean_size"] * part["tokens"] for part in sizes) / count
    below = sum(part["mean"] * part["tokens"] for part in sizes) / count
    return (
        f"{text}; mean size of a token's advantage {number(mean, '.3f')} nats, mean {number(below, '.3f')} "
        f"(n = {count:,} tokens)."
    )


def prompt_only_verdict(prompt_only: Mapping[str, Run]) -> str:
    """What a prompt-only update can learn from."""
    closing = all(run.manifest["parameters"]["distillation"]["closing"] for run in prompt_only.values())
    bound = published_added("sdpo-prompt-only")
    added = mean_added(prompt_only)
    fits = not math.isnan(added) and bound.low <= added <= bound.high
    if not closing:
        return "Without the closing instruction nothing is learnt: every advantage is exactly 0."
    text = (
        "No outcome of any rollout enters this update: whatever it learns, it learns from one sentence. Its score says "
        "what that sentence and the choice of a step are worth, nothing about feedback."
    )
    agree = "agrees with" if fits else "differs from"
    return (
        f"{text} Its length here {agree} what table C.1 leaves room for ([{bound.low:.0f}, {bound.high:.0f}] tokens)."
    )
