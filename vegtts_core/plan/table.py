"""A plan on the terminal: one table of what is spent, one of what is held, notes, and a sentence at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vegtts_core.plan.durations import Amounts
from vegtts_core.plan.memory import Memory
from vegtts_core.plan.planning import RunPlan

UNKNOWN = "?"


def show(plans: Sequence[RunPlan], console: Console, devices: int = 1) -> None:
    """Tables and notes of a plan."""
    console.print(_spent(plans, devices))
    held = [each for each in plans if each.memory is not None]
    if held:
        console.print(_held(held))
    for number, note in enumerate(dict.fromkeys(note for each in plans for note in each.notes), 1):
        console.print(f"[{number}] {note}", markup=False, highlight=False)


def _spent(plans: Sequence[RunPlan], devices: int) -> Table:
    table = Table(title="What it will spend: expected (at most)", title_justify="left")
    table.add_column("run", overflow="fold")
    per = " per device" if devices > 1 else ""
    for name in ("rollouts", "prompt tokens", "completion tokens", "teacher", "scored", f"evaluations{per}"):
        table.add_column(name, justify="right")
    for name in ("sampling", "evaluating", "updates", "wall time"):
        table.add_column(name, justify="right")
    for each in plans:
        spent = each.expected_seconds or each.bound_seconds
        times = (
            spent.sampling,
            None if spent.evaluation is None else spent.evaluation + (spent.retiming or 0) + (spent.references or 0),
            None if spent.update is None or spent.preparing is None else spent.update + spent.preparing,
            spent.total,
        )
        table.add_row(
            each.name if each.name == each.section else f"{each.section}: {each.name}",
            f"{each.rollouts:,}",
            f"{'' if each.prompts_exact else '≈ '}{each.prompt_tokens:,}",
            _both(each, "completion_tokens"),
            _both(each, "teacher_tokens"),
            _both(each, "scored_tokens"),
            f"{each.evaluations_per_device:,.0f}",
            *(f"{'' if each.expected or not took else '≤ '}{duration(took)}" for took in times),
        )
    return table


def _both(each: RunPlan, name: str) -> str:
    bound = getattr(each.bound, name)
    if not bound:
        return "0"
    expected = getattr(each.expected, name) if isinstance(each.expected, Amounts) else None
    return f"≤ {bound:,.0f}" if expected is None else f"{expected:,.0f} (≤ {bound:,.0f})"


def _held(plans: Sequence[RunPlan]) -> Table:
    table = Table(
        title="What it will hold on each device, if every completion is as long as may be", title_justify="left"
    )
    table.add_column("run", overflow="fold")
    names = ("weights", "adapter, gradients, moments", "prompts' cache", "completions' cache", "decoding logits")
    for name in (*names, "activations", "update logits", "at most", "with plain TRL"):
        table.add_column(name, justify="right")
    before: tuple[str, Memory] | None = None
    for each in plans:
        memory = each.memory
        assert memory is not None
        if before == (each.section, memory):  # a family's runs mostly hold the same
            continue
        before = (each.section, memory)
        table.add_row(
            each.section,
            *(
                size(value)
                for value in (
                    memory.weights,
                    memory.adapter + memory.gradients + memory.moments,
                    memory.prompt_cache,
                    memory.completion_cache,
                    memory.sampling_logits,
                    memory.activations,
                    memory.update_logits,
                    memory.total,
                    memory.plain_total,
                )
            ),
        )
    return table


def sentence(plans: Sequence[RunPlan], devices: int = 1) -> str:
    """What all of it costs, in one sentence."""
    rollouts = sum(each.rollouts for each in plans)
    tokens = sum(each.student_tokens + (each.expected or each.bound).teacher_tokens for each in plans)
    runs = f"{len(plans)} run{'s' if len(plans) > 1 else ''}"
    total = f"{runs}: {rollouts:,} rollouts, {_rounded(tokens)} tokens"
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


def _rounded(tokens: float) -> str:
    if tokens >= 1e6:
        return f"{tokens / 1e6:,.1f} million"
    return f"{tokens:,.0f}"
