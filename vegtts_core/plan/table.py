"""A plan on the terminal: one table of what is spent, one of what is held, notes, and a sentence at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vegtts_core.plan.memory import Memory
from vegtts_core.plan.planning import RunPlan

UNKNOWN = "?"


def show(plans: Sequence[RunPlan], console: Console, devices: int = 1) -> None:
    """Tables and notes of a plan."""
    console.print(_tokens(plans))
    console.print(_times(plans, devices))
    if any(each.memory is not None for each in plans):
        console.print(_held(plans))
    concerned: dict[str, list[str]] = {}
    for each in plans:
        for note in each.notes:
            concerned.setdefault(note, []).append(each.section)
    for note, sections in concerned.items():
        everywhere = len(sections) == len(plans)
        console.print(note if everywhere else f"{', '.join(dict.fromkeys(sections))}: {note}", highlight=False)


def _tokens(plans: Sequence[RunPlan]) -> Table:
    # A kind of token that no run has needs no column.
    kinds = {"completion_tokens": "completion", "teacher_tokens": "teacher", "scored_tokens": "scored"}
    kinds = {name: title for name, title in kinds.items() if any(getattr(each.bound, name) for each in plans)}
    table = _table("Rollouts and tokens: expected, and at most", ["run"], ["rollouts", "prompt", *kinds.values()])
    _add_rows(
        table,
        plans,
        lambda each: [
            f"{each.rollouts:,}",
            f"{'' if each.prompts_exact or not each.prompt_tokens else '≈ '}{short(each.prompt_tokens)}",
            *(_both(each, name) for name in kinds),
        ],
    )
    return table


def _times(plans: Sequence[RunPlan], devices: int) -> Table:
    judged = "judged\nper device" if devices > 1 else "judged"
    title = f"Distinct candidates that are judged, and time{f' on {devices} devices' if devices > 1 else ''}"
    table = _table(title, ["run"], [judged, "sampling", "judging", "scoring", "updates", "wall time"])

    def cells(each: RunPlan) -> list[str]:
        spent = each.expected_seconds or each.bound_seconds
        judging = None
        if spent.evaluation is not None:
            judging = spent.evaluation + (spent.retiming or 0) + (spent.references or 0)
        times = (spent.sampling, judging, spent.preparing, spent.update, spent.total)
        sure = "" if each.expected is not None else "≤ "
        return [f"{each.evaluations_per_device:,.0f}", *(f"{sure if took else ''}{duration(took)}" for took in times)]

    _add_rows(table, plans, cells)
    return table


def _held(plans: Sequence[RunPlan]) -> Table:
    """One column per kind of run, of a section's run that holds most; one row per term."""
    largest: dict[str, Memory] = {}
    for each in plans:
        if each.memory is not None:
            held = largest.get(each.section, each.memory)
            largest[each.section] = max(held, each.memory, key=lambda memory: memory.total)
    sections: dict[Memory, list[str]] = {}
    for section, memory in largest.items():
        sections.setdefault(memory, []).append(section)
    title = "Memory of each device, if every completion is as long as may be"
    table = _table(title, ["term"], ["\n".join(names) for names in sections.values()])
    for term, read in _TERMS.items():
        table.add_row(term, *(size(read(memory)) for memory in sections), end_section=term == "update logits")
    return table


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _add_rows(table: Table, plans: Sequence[RunPlan], cells: Callable[[RunPlan], list[str]]) -> None:
    """One row for all runs of a section that have the same cells."""
    alike: dict[tuple[str, ...], list[RunPlan]] = {}
    for each in plans:
        alike.setdefault((each.section, *cells(each)), []).append(each)
    for row, runs in alike.items():
        first = runs[0]
        said = first.section.removesuffix("_study") in first.name  # a name that tells the section
        name = first.name if said else f"{first.section}: {first.name}"
        table.add_row(f"{name}\n  and {len(runs) - 1} more, each" if len(runs) > 1 else name, *row[1:])


def _both(each: RunPlan, name: str) -> str:
    bound = getattr(each.bound, name)
    if not bound:
        return "0"
    return f"≤ {short(bound)}" if each.expected is None else f"{short(getattr(each.expected, name))}\n≤ {short(bound)}"


_TERMS: dict[str, Callable[[Memory], int]] = {
    "weights": lambda memory: memory.weights,
    "adapter": lambda memory: memory.adapter,
    "its gradients": lambda memory: memory.gradients,
    "Adam's moments": lambda memory: memory.moments,
    "prompts' cache": lambda memory: memory.prompt_cache,
    "completions' cache": lambda memory: memory.completion_cache,
    "decoding logits": lambda memory: memory.sampling_logits,
    "activations": lambda memory: memory.activations,
    "update logits": lambda memory: memory.update_logits,
    "at most at a time": lambda memory: memory.total,
    "with plain TRL": lambda memory: memory.plain_total,
}


def sentence(plans: Sequence[RunPlan], devices: int = 1) -> str:
    """What all of it costs, in one sentence."""
    rollouts = sum(each.rollouts for each in plans)
    tokens = sum(each.student_tokens + (each.expected or each.bound).teacher_tokens for each in plans)
    runs = f"{len(plans)} run{'s' if len(plans) > 1 else ''}"
    total = f"{runs}: {rollouts:,} rollouts, {short(tokens)} tokens"
    unknown = [each.name for each in plans if each.wall_seconds is None]
    known = sum(each.wall_seconds for each in plans if each.wall_seconds is not None)
    on = f" on {devices} devices" if devices > 1 else ""
    if len(unknown) == len(plans):
        return f"{total}; how long they take{on} is not known without rates."
    sure = "about" if all(each.expected for each in plans if each.wall_seconds is not None) else "at most"
    time = f"{total}, {sure} {duration(known)}{on}, one after the other"
    return f"{time}, without {', '.join(unknown)}, whose rates are not known." if unknown else f"{time}."


def duration(seconds: float | None) -> str:
    """A time in the unit that reads best."""
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} days"


def size(count: int) -> str:
    """Bytes in the unit that reads best."""
    if count >= 2**30:
        return f"{count / 2**30:,.1f} GiB"
    return f"{count / 2**20:,.0f} MiB" if count else "0"


def short(count: float) -> str:
    """A count, rounded where it is large."""
    if count >= 1e6:
        return f"{count / 1e6:,.1f} million"
    return f"{count / 1e3:,.0f}k" if count >= 1e5 else f"{count:,.0f}"
