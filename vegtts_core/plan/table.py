"""A plan on the terminal: one table of what is spent, one of what is held, notes, and a sentence at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from vegtts_core.plan.memory import Memory
from vegtts_core.plan.planning import RunPlan

UNKNOWN = "?"


def show(plans: Sequence[RunPlan], console: Console, devices: int = 1) -> None:
    """Tables and notes of a plan."""
    console.print(_spent(plans, devices))
    if any(each.memory is not None for each in plans):
        console.print(_held(plans))
    for number, note in enumerate(dict.fromkeys(note for each in plans for note in each.notes), 1):
        console.print(f"[{number}] {note}", markup=False, highlight=False)


def _spent(plans: Sequence[RunPlan], devices: int) -> Table:
    table = Table(title="What it will spend: expected (at most)", title_justify="left")
    table.add_column("run", overflow="fold")
    # A kind of token that no run has needs no column.
    kinds = {"completion_tokens": "completions", "teacher_tokens": "teacher", "scored_tokens": "scored"}
    kinds = {name: title for name, title in kinds.items() if any(getattr(each.bound, name) for each in plans)}
    evaluations = "evaluations per device" if devices > 1 else "evaluations"
    for title in ("rollouts", "prompt tokens", *kinds.values(), evaluations):
        table.add_column(title, justify="right")
    for title in ("sampling", "evaluating", "updates", "wall time"):
        table.add_column(title, justify="right")
    for each in plans:
        spent = each.expected_seconds or each.bound_seconds
        times = (
            spent.sampling,
            None if spent.evaluation is None else spent.evaluation + (spent.retiming or 0) + (spent.references or 0),
            None if spent.update is None or spent.preparing is None else spent.update + spent.preparing,
            spent.total,
        )
        table.add_row(
            each.name if each.section in each.name else f"{each.section}: {each.name}",
            f"{each.rollouts:,}",
            f"{'' if each.prompts_exact or not each.prompt_tokens else '≈ '}{short(each.prompt_tokens)}",
            *(_both(each, name) for name in kinds),
            f"{each.evaluations_per_device:,.0f}",
            *(f"{'' if each.expected or not took else '≤ '}{duration(took)}" for took in times),
        )
    return table


def _both(each: RunPlan, name: str) -> str:
    bound = getattr(each.bound, name)
    if not bound:
        return "0"
    return f"≤ {short(bound)}" if each.expected is None else f"{short(getattr(each.expected, name))} (≤ {short(bound)})"


def _held(plans: Sequence[RunPlan]) -> Table:
    """One column per section, of its run that holds most; one row per term."""
    largest: dict[str, Memory] = {}
    for each in plans:
        if each.memory is not None:
            largest[each.section] = max(
                largest.get(each.section, each.memory), each.memory, key=lambda memory: memory.total
            )
    title = "What it will hold on each device, if every completion is as long as may be"
    table = Table(title=title, title_justify="left")
    table.add_column("term")
    for section in largest:
        table.add_column(section, justify="right", overflow="fold")
    for term, read in _TERMS.items():
        last = term == "update logits"
        table.add_row(term, *(size(read(memory)) for memory in largest.values()), end_section=last)
    return table


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
