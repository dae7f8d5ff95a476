"""Recorded intervals with what differs between evaluations: the rule of today for measurements of yesterday.

Until ``between_evaluations`` came into the sound protocol, its intervals held the noise within one pair of processes
only. Files under data/runs stay as they were measured. Whoever reads them for a table takes them through
`with_between_evaluations`: bounds widened by today's reach, decisions that follow from these bounds. Estimates stay.
Rows that were measured with it say so (column ``sound_between_evaluations``) and pass through, unless more repeats have
since shown that it has to be more. It can only take decisions back: none becomes *faster*, *slower* or *same* that was
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vegtts_core.evaluator.settings import BetweenEvaluations, Reach, SoundSettings
from vegtts_core.evaluator.types import Decision
from vegtts_core.runs.store import Run

#: The column that tells how much of an interval stands for what differs between evaluations.
BETWEEN = "sound_between_evaluations"
_OWN = BETWEEN.removeprefix("sound_")
#: What a reader is told of a run whose intervals were widened; a key of the manifest in memory, in no file.
RULE = "intervals"

#: The clocks on a CPU before today's, as repeats asked for then (`vegtts_core.runs.repeats`). In data/runs there are
#: kernels by the first one; whoever has others has them from an earlier version.
_EARLIER_CLOCKS = {
    "1": BetweenEvaluations(cpu=Reach(share=0.075), cpu_modules=Reach(share=0.18)),
    "2": BetweenEvaluations(cpu=Reach(share=0.23), cpu_modules=Reach(share=0.18)),
}

#: Reaches of calls that differ by less than this are one.
_SAME = 1e-9

Array = NDArray[np.float64]


def evaluated_on(run: Run) -> str:
    """``cpu`` or ``cuda``: what a run's candidates were timed on."""
    parameters = run.manifest["parameters"]
    named = parameters.get("evaluation_device") or parameters.get("device") or run.measured_on.get("device")
    return str(named or "cpu").partition(":")[0]


def evaluated_beside(run: Run) -> int:
    """How many evaluators timed a run's candidates at once on one CPU; 1 on a GPU."""
    given = run.manifest["parameters"].get("evaluator") or {}
    return int(given.get("workers", 1)) if evaluated_on(run) == "cpu" else 1


def cpu_clock(run: Run) -> str:
    """By which clock a run's candidates were timed, if on a CPU: see `machine.CPU_CLOCK`."""
    measured = run.manifest.get("remeasured") or run.manifest
    return str((measured.get("versions") or {}).get("cpu_clock", "1"))


def reaches_under(clock: str) -> BetweenEvaluations:
    """The defaults for a clock of candidates on a CPU (`machine.CPU_CLOCK`): today's, unless it is an earlier one."""
    return _EARLIER_CLOCKS.get(clock) or BetweenEvaluations()


def with_between_evaluations(run: Run, between: BetweenEvaluations | None = None, again: bool = False) -> Run:
    """The run with the intervals and decisions of its samples and references widened where they were recorded without.

    ``between``: those of the run's clock unless given (`reaches_under`). ``again``: also where they were measured with
    less than that, as runs in data/runs may have been; who measures today may know the device better than the defaults
    do. The manifest in memory gets a sentence under ``intervals`` that says by what rule; it stays as it is where
    nothing had to be widened.
    """
    between = between or reaches_under(cpu_clock(run))
    device, workers = evaluated_on(run), evaluated_beside(run)
    recorded = (run.manifest["parameters"].get("evaluator") or {}).get("sound") or {}
    effect = float(recorded.get("minimum_effect", SoundSettings().minimum_effect))
    samples = widened_samples(run.samples, device, between, effect, workers, again)
    references = run.references
    if "sound_speedup_low" in references:  # bodies of forward, against themselves
        references = references.assign(scaffold="forward")
        references = widened_samples(references, device, between, effect, workers, again)
        references = references.drop(columns="scaffold")
    if samples is run.samples:
        return run
    used = sorted(set(run.samples["scaffold"].dropna()))
    parts = "; ".join(f"{name} {in_words(between.reach(device, name, workers))}" for name in used)
    rule = (
        "Recorded intervals hold the noise within one pair of processes, or an earlier allowance beside it; here they "
        f"are widened by what repeated evaluations differ by ({parts}), and decisions follow from the widened ones."
    )
    return replace(run, samples=samples, references=references, manifest=run.manifest | {RULE: rule})


def in_words(reach: Reach) -> str:
    """``±1.1%`` or ``±1.1% and 57 µs``."""
    clock = f" and {1e6 * reach.seconds:.0f} µs" if reach.seconds else ""
    return f"±{math.expm1(reach.share):.1%}{clock}"


def widened_samples(
    samples: pd.DataFrame,
    device: str,
    between: BetweenEvaluations,
    minimum_effect: float,
    workers: int = 1,
    again: bool = False,
) -> pd.DataFrame:
    """A samples table with honest bounds: ``sound_speedup_low``, ``_high``, ``sound_decision``, and ``retimed_``'s.

    ``samples`` has the columns of ``vegtts_core.runs.schema.SAMPLES``, or those of a run's references and ``scaffold``.
    ``workers``: how many evaluators shared the CPU. Rows without bounds stay as they are, as do rows that were measured
    with ``between_evaluations`` (with ``again``: with as much as today's), and so do all other columns. A second
    evaluation's upper bound is not recorded: it is taken as far from the estimate as the lower.
    Returns ``samples`` itself if no row changes.
    """
    low, high = (samples[name].astype(float) for name in ("sound_speedup_low", "sound_speedup_high"))
    old = low.gt(0) & high.gt(0)
    known = samples[BETWEEN].astype(float) if BETWEEN in samples else pd.Series(np.nan, samples.index)
    if not again:
        old &= known.isna()
    if not old.any():
        return samples
    reaches = pd.Series(np.nan, samples.index)
    reaches[old] = _reaches(samples[old], device, between, workers)
    old &= reaches.gt(known.fillna(0.0) + _SAME)
    if not old.any():
        return samples
    # What is in the interval already is not added again: both add in quadrature.
    more = np.sqrt(reaches[old] ** 2 - known[old].fillna(0.0) ** 2)
    found = samples.copy()
    center = samples["sound_speedup"].astype(float)
    bounds = _widened(center[old], low[old], high[old], more.to_numpy())
    found.loc[old, "sound_speedup_low"], found.loc[old, "sound_speedup_high"] = bounds
    found.loc[old, "sound_decision"] = _decisions(*bounds, samples.loc[old, "sound_decision"], minimum_effect)
    found[BETWEEN] = known
    found.loc[old, BETWEEN] = reaches[old]
    if "retimed_sound_speedup_low" in samples:
        second = old & samples["retimed_sound_speedup_low"].astype(float).gt(0)
        center, low = (samples.loc[second, f"retimed_sound_speedup{end}"].astype(float) for end in ("", "_low"))
        bounds = _widened(center, low, center**2 / low, more[second[old]].to_numpy())
        found.loc[second, "retimed_sound_speedup_low"] = bounds[0]
        decided = samples.loc[second, "retimed_sound_decision"]
        found.loc[second, "retimed_sound_decision"] = _decisions(*bounds, decided, minimum_effect)
    return found


def widened_calibration(rows: pd.DataFrame, manifest: Mapping[str, Any]) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Rows of ``calibration.parquet`` with the sound protocol's intervals and decisions by today's rule.

    ``manifest`` is the one beside them; it is returned with the rule that the rows follow. Those that were measured
    with ``between_evaluations`` stay as they are.
    """
    if _OWN in rows:
        return rows, manifest
    parameters, sound = manifest["parameters"], rows["protocol"] == "sound"
    names = {name: f"sound_{name}" for name in ("speedup", "speedup_low", "speedup_high", "decision", _OWN)}
    part = rows[sound].rename(columns=names).assign(scaffold=parameters.get("scaffold", "forward"))
    effect = parameters["settings"]["sound"]["minimum_effect"]
    part = widened_samples(part, parameters["device"], BetweenEvaluations(), effect)
    found = rows.copy()
    for old, new in names.items():
        found.loc[sound, old] = part[new]
    reach = BetweenEvaluations().reach(parameters["device"], parameters.get("scaffold", "forward"))
    return found, {**manifest, RULE: in_words(reach)}


def _reaches(samples: pd.DataFrame, device: str, between: BetweenEvaluations, workers: int) -> Array:
    by_scaffold = {name: between.reach(device, str(name), workers) for name in samples["scaffold"].unique()}
    if not any(reach.seconds for reach in by_scaffold.values()):
        return np.array([by_scaffold[name].share for name in samples["scaffold"]])
    rows = zip(samples["scaffold"], _shorter_call(samples), strict=True)
    return np.array([by_scaffold[name].of(seconds) for name, seconds in rows])


def _shorter_call(samples: pd.DataFrame) -> Array:
    """Seconds of the shorter of the two calls (medians); references have their own and their speedup."""
    if "sound_candidate_seconds" not in samples:
        own, speedup = (samples[name].astype(float) for name in ("reference_seconds", "sound_speedup"))
        return np.minimum(own, own / speedup).to_numpy()
    median: Callable[[Any], float] = lambda calls: float(np.median(np.asarray(calls, dtype=float)))  # noqa: E731
    both = [samples[f"sound_{side}_seconds"].map(median) for side in ("reference", "candidate")]
    return np.minimum(*both).to_numpy()


def _widened(center: pd.Series, low: pd.Series, high: pd.Series, reach: Array) -> tuple[Array, Array]:
    """Bounds of the speedup after `vegtts_core.evaluator.timing_statistics.widened`, many at a time."""
    at, down, up = (np.log(values.to_numpy(dtype=float)) for values in (center, low, high))
    return np.exp(at - np.hypot(at - down, reach)), np.exp(at + np.hypot(up - at, reach))


def _decisions(low: Array, high: Array, before: pd.Series, minimum_effect: float) -> list[str | None]:
    """As `vegtts_core.evaluator.timing_statistics.decide`; what was undecided stays so, and None stays None."""
    bound = math.log1p(minimum_effect)
    logs = np.log(low), np.log(high)
    holds = {
        Decision.FASTER: logs[0] > bound,
        Decision.SLOWER: logs[1] < -bound,
        Decision.SAME: (logs[0] >= -bound) & (logs[1] <= bound),
    }
    return [
        None if was is None else (was if was in holds and bool(holds[Decision(was)][place]) else "undecided")
        for place, was in enumerate(before)
    ]
