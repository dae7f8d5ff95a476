"""What a teacher was shown, rebuilt from a run's samples: the contexts of chapter 3.4, and what was kept out of them.

Contexts are a function of rows and prompts, so no model is needed. How much of a student's code a context holds is
counted here by other means than those that cut it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vegtts_core.book.tables import Column
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.runs import Run
from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.training.distillation_record import added_text
from vegtts_core.training.teacher import LONGEST_QUOTE, SelfDistillationParameters, choose_solution, teacher_prompt_for

_WORD = re.compile(r"\w+|[^\w\s]")

CONTEXT_COLUMNS = {
    "outcome": Column("outcome of the attempt"),
    "rollouts": Column("rollouts", ",.0f"),
    "solutions": Column("shown a solution", ",.0f"),
    "cut": Column("cut", ",.0f", group="error messages"),
    "before": Column("longest quotation", ".0f", "words and signs", group="error messages"),
    "after": Column("longest quotation", ".0f", "words and signs", group="as shown"),
    "characters": Column("added", ",.0f", "characters", group="as shown"),
}


@dataclass(frozen=True)
class Context:
    """One rollout's row, what the teacher's question has after the student's, and the solution in it, if any.

    ``before`` and ``after``: the longest run of words and signs of the student's completion in the error message as it
    was and in what is shown, other than runs that the prompt or the solution has as well.
    """

    row: Mapping[str, Any]
    added: str
    solution: str | None
    correct: bool
    before: int
    after: int

    @property
    def outcome(self) -> str:
        """``correct`` or the kind of error."""
        return "correct" if self.correct else str(self.row["error"] or self.row["stage"])

    @property
    def cut(self) -> bool:
        """Whether anything of the error message is not shown."""
        reason = " ".join(str(self.row["reason"] or "").split())
        return not self.correct and bool(reason) and reason not in self.added


def prompts_of(run: Run) -> dict[str, Prompt]:
    """A run's prompts by id (their stop strings are not recorded)."""
    found = json.loads((run.folder / "prompts.json").read_text(encoding="utf-8"))
    return {
        name: Prompt(name, tuple(Message(Role(m["role"]), m["content"]) for m in value["messages"]), ())
        for name, value in found.items()
    }


def contexts(run: Run) -> list[Context]:
    """Every rollout of a self-distilled run that made an update, with what its teacher saw, in the run's order."""
    values = run.manifest["parameters"]
    parameters = SelfDistillationParameters.model_validate(values["distillation"])
    protocol = ProtocolName(values["protocol"])
    prompts = prompts_of(run)
    updates = run.steps.loc[run.steps["teacher_tokens"] > 0, "step"]
    made = run.samples[run.samples["step"].isin(updates)]
    found = []
    for _, group in made.groupby(["step", "scaffold", "task"], sort=True):
        rows = [{str(key): value for key, value in row.items()} for row in group.to_dict("records")]
        for place, row in enumerate(rows):
            prompt = prompts[row["prompt_id"]]
            added = added_text(prompt, teacher_prompt_for(prompt, rows, place, parameters, protocol))
            solution = choose_solution(rows, place, protocol) if parameters.solution else None
            public = [*(message.content for message in prompt.messages), solution or ""]
            correct = row[f"{protocol}_correct"] in (True,)  # neither None nor NaN
            reason = "" if correct else str(row["reason"] or "")
            before, after = (longest_quotation(text, row["completion"], public) for text in (reason, added))
            found.append(Context(row, added, solution, correct, before, after))
    return found


def longest_quotation(text: str, code: str, public: Iterable[str]) -> int:
    """Words and signs in the longest run of ``code`` that ``text`` repeats and that no text of ``public`` has."""
    words = _WORD.findall(text)
    written, known = _line(_WORD.findall(code)), [_line(_WORD.findall(each)) for each in public]
    longest = 0
    for first in range(len(words)):
        stop = first
        while stop < len(words) and _line(words[first : stop + 1]) in written:
            stop += 1
        run = _line(words[first:stop])
        if stop - first > longest and not any(run in each for each in known):
            longest = stop - first
    return longest


def _line(words: Sequence[str]) -> str:
    return "\n" + "\n".join(words) + "\n"


def context_table(found: Sequence[Context]) -> pd.DataFrame:
    """One row per outcome, correct ones first, then errors by how frequent they are; columns of ``CONTEXT_COLUMNS``."""
    outcomes = pd.Series([context.outcome for context in found], dtype=object).value_counts()
    rows = []
    for outcome in sorted(outcomes.index, key=lambda name: (name != "correct", -outcomes[name], name)):
        mine = [context for context in found if context.outcome == outcome]
        rows.append(
            {
                "outcome": outcome.replace("_", " "),
                "rollouts": len(mine),
                "solutions": sum(context.solution is not None for context in mine),
                "cut": None if outcome == "correct" else sum(context.cut for context in mine),
                "before": None if outcome == "correct" else max(context.before for context in mine),
                "after": max(context.after for context in mine),
                "characters": sum(len(context.added) for context in mine) / len(mine),
            }
        )
    return pd.DataFrame(rows, columns=list(CONTEXT_COLUMNS))


def example(found: Sequence[Context], task: str | None = None, sample: int | None = None) -> Context:
    """The rollout to show: the one of the first step that is named, else the first wrong one that saw a solution.

    Without such a one, the first wrong one, else the first.
    """
    if task is not None:
        first = min(context.row["step"] for context in found)
        for context in found:
            if (context.row["step"], context.row["task"], context.row["sample"]) == (first, task, sample):
                return context
    ranked = sorted(found, key=lambda context: (context.correct, context.solution is None))
    return ranked[0]


def cut_example(found: Sequence[Context]) -> Context | None:
    """The first rollout whose error message quoted most of its code and lost it; None if none was cut."""
    cut = [context for context in found if context.cut and context.before > LONGEST_QUOTE]
    return max(cut, key=lambda context: context.before) if cut else next((c for c in found if c.cut), None)


def before_and_after(context: Context | None) -> str:
    """An error message as the evaluator gave it, and the teacher's line about it."""
    if context is None:
        return "(no error message of this run had anything to cut)"
    shown = next((line for line in context.added.splitlines() if line.startswith("- Error")), "")
    return (
        f"as the evaluator wrote it:\n\n{str(context.row['reason']).strip()}\n\nas the teacher is shown it:\n\n{shown}"
    )


def quotation_text(found: Sequence[Context]) -> str:
    """What the contexts of a run hold of their students' code, in a sentence."""
    errors = [context for context in found if not context.correct]
    if not errors:
        return f"{len(found):,} contexts, none of them with an error message."
    quoting = sum(context.before > LONGEST_QUOTE for context in errors)
    before, after = max(c.before for c in errors), max(c.after for c in found)
    return (
        f"{len(found):,} contexts, {len(errors):,} with an error message; {quoting:,} of these messages repeated "
        f"more than {LONGEST_QUOTE} words and signs of the attempt in a row, the longest {before}. As shown, the "
        f"longest is {after}."
    )


def quotation_verdict(found: Sequence[Context]) -> str:
    """Whether the rule held, and whether it had anything to do."""
    if max(context.after for context in found) > LONGEST_QUOTE:
        return "The rule did not hold: a context repeats more of the attempt than it may."
    if any(context.before > LONGEST_QUOTE for context in found):
        return (
            "Left as they are, error messages hand the attempt's code to the teacher. Cut, they do not; a paper that "
            "passes “error traces” on has to say which it did."
        )
    return "No message of this run quoted its attempt: the rule held, and had nothing to do."
