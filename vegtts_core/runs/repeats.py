"""Candidates that were evaluated more than once, by whichever runs: do their intervals and decisions hold in a repeat?

    python -m vegtts_core.runs.repeats

prints, per device, how many pairs of evaluations there are in data/runs, how many have 95% intervals that exclude each
other and decisions that contradict each other, with recorded and with widened intervals, and the reach for what differs
between evaluations that this and the A/A of data/calibration ask for: the defaults of ``between_evaluations``.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.evaluator.repeats import noise_part, reach_between, reach_of_tasks, reaches_of_identical
from vegtts_core.evaluator.settings import BetweenEvaluations, Reach, SoundSettings
from vegtts_core.evaluator.timing_statistics import Interval, decide, widened
from vegtts_core.evaluator.types import Decision
from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.runs.files import canonical_json
from vegtts_core.runs.intervals import BETWEEN, cpu_clock, evaluated_on, reaches_under
from vegtts_core.runs.store import Run, load_run

#: The GPU's runs that the defaults of ``between_evaluations`` were found from. Whatever was measured later tests them.
CALIBRATED_ON = frozenset(
    {
        "adaptation_h100_t1_42",
        "adaptation_h100_t1_43",
        "best_of_n_h100_embedded_1",
        "best_of_n_h100_template_1",
        "warm_start_h100",
    }
)
_DECIDED = (Decision.FASTER, Decision.SLOWER, Decision.SAME)


def evaluations(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per evaluation of a right candidate: first verdicts, and second ones on fresh data.

    Columns: ``where`` (machine, size and settings: only evaluations under equal ones are repeats), ``device``,
    ``scaffold``, task, fingerprint, run, and ``log``, ``low``, ``high``: the estimate and the noise within the
    evaluation, natural logarithms. A verdict that two runs share, or two rows, counts once. Without tasks that a run
    left out when it was measured again, and without runs that took their verdicts from another.
    """
    rows = [row for run in runs if run.manifest["parameters"].get("evaluator") for row in _rows(run)]
    names = ["where", "device", "scaffold", "task", "fingerprint", "run", "log", "low", "high"]
    return pd.DataFrame(rows, columns=names).drop_duplicates(["where", "task", "fingerprint", "log"])


def _rows(run: Run) -> Iterator[tuple[Any, ...]]:
    parameters, measured_on = run.manifest["parameters"], run.measured_on
    device = evaluated_on(run)
    chip = measured_on.get("gpu") if device == "cuda" else measured_on.get("cpu")
    settings = parameters["evaluator"]
    timing = {name: settings["sound"][name] for name in ("confirmations", "half_width", "max_pairs", "max_seconds")}
    # A node's other evaluators are part of what a measurement there is like.
    conditions = timing | {name: settings.get(name, 1) for name in ("threads", "workers")}
    if device == "cpu":
        conditions["clock"] = cpu_clock(run)
    where = canonical_json({"chip": chip, "cores": measured_on.get("cores"), "size": parameters["size"], **conditions})
    right = run.samples["sound_speedup"].notna() & run.samples["sound_correct"].eq(True)
    samples = run.samples[right & ~run.samples["task"].isin(run.stale_tasks)]
    for row in samples.drop_duplicates(["task", "scaffold", "fingerprint"]).to_dict("records"):
        head = (where, device, row["scaffold"], row["task"], row["fingerprint"], run.folder.name)
        reach = row.get(BETWEEN) or 0.0
        reach = 0.0 if math.isnan(reach) else reach
        again = row.get("retimed_sound_speedup"), row.get("retimed_sound_speedup_low")
        for estimate, low, high in (
            (row["sound_speedup"], row["sound_speedup_low"], row["sound_speedup_high"]),
            (*again, again[0] ** 2 / again[1] if all(map(_positive, again)) else None),  # type: ignore[operator]
        ):
            if all(map(_positive, (estimate, low, high))):
                at, down, up = (math.log(value) for value in (estimate, low, high))
                yield (*head, at, at - noise_part(at - down, reach), at + noise_part(up - at, reach))


def _positive(value: Any) -> bool:
    return value is not None and value > 0 and math.isfinite(value)


def pairs(found: pd.DataFrame) -> pd.DataFrame:
    """All pairs of evaluations of one candidate under one set of conditions: columns of both, ``_1`` the lower one.

    ``later``: whether at least one of the two is by a run that is not among `CALIBRATED_ON`.
    """
    keys = ["where", "device", "scaffold", "task", "fingerprint"]
    found = found.assign(later=~found["run"].isin(CALIBRATED_ON))
    rows = []
    for key, group in found.groupby(keys, sort=False):
        ordered = group.sort_values("log")[["log", "low", "high", "later"]].to_numpy()
        both = itertools.combinations(ordered, 2)
        rows += [(*key, *one[:3], *other[:3], bool(one[3] or other[3])) for one, other in both]  # type: ignore[misc]
    return pd.DataFrame(rows, columns=[*keys, "log_1", "low_1", "high_1", "log_2", "low_2", "high_2", "later"])


def agreement(found: pd.DataFrame, reach: Reach, minimum_effect: float = SoundSettings().minimum_effect) -> pd.Series:
    """How often two evaluations agree, with intervals of this reach (of calls so long that its seconds are nothing).

    ``pairs``; ``disjoint``: share whose 95% intervals exclude each other; ``contradicting``: share of which one is
    decided and the other decided otherwise; ``lost``: share of which exactly one is decided. Of normal errors,
    intervals of equal width are disjoint in 0.6%.
    """
    disjoint = contradicting = lost = 0
    for row in found.to_dict("records"):
        one, other = (
            widened(Interval(row[f"log_{n}"], row[f"low_{n}"], row[f"high_{n}"]), reach.share) for n in (1, 2)
        )
        disjoint += one.high < other.low
        decisions = [decide(each, minimum_effect) for each in (one, other)]
        decided = [each in _DECIDED for each in decisions]
        contradicting += all(decided) and decisions[0] is not decisions[1]
        lost += sum(decided) == 1
    n = max(len(found), 1)
    shares = {"disjoint": disjoint / n, "contradicting": contradicting / n, "lost": lost / n}
    return pd.Series({"pairs": len(found), **shares})


def needed(found: pd.DataFrame) -> np.ndarray:
    """The least reach with which the two evaluations of each of `pairs` agree."""
    return reach_between(
        found["log_2"] - found["log_1"], found["high_1"] - found["log_1"], found["log_2"] - found["low_2"]
    )


def recorded_runs(root: Path) -> list[Run]:
    """The finished runs with samples in data/runs."""
    return [load_run(path.parent) for path in sorted((root / "data" / "runs").glob("*/samples.parquet"))]


def identical(root: Path, name: str) -> pd.DataFrame:
    """The sound protocol's rows of an A/A calibration that were measured; empty if it is not recorded."""
    path = root / "data" / "calibration" / name / "calibration.parquet"
    if not path.is_file():
        return pd.DataFrame(columns=["task"])
    rows = pd.read_parquet(path)
    return rows[rows["protocol"].eq("sound") & rows["speedup"].notna()]


def recorded_reaches(
    root: Path, found: pd.DataFrame | None = None, clock: str = machine.CPU_CLOCK
) -> BetweenEvaluations:
    """What the recorded data ask for: see `vegtts_core.evaluator.repeats`.

    ``found``: `pairs` of the recorded runs. On a CPU, repeated evaluations, for bodies of ``forward`` no less than A/A;
    evaluations that had the machine to themselves and those that shared it stand apart. Kernels count under ``clock``
    alone (`machine.CPU_CLOCK`), bodies under today's: no other is left. Of modules on a GPU no candidates are recorded
    twice: A/A alone, its share that of kernels, the rest in seconds of the clock.
    """
    found = pairs(evaluations(recorded_runs(root))) if found is None else found
    kernels = found[found["device"].eq("cuda") & ~found["scaffold"].isin(["forward", "module"])]
    events = reach_of_tasks(needed(kernels), list(kernels["task"]))[0]
    processor = found[found["device"].eq("cpu")]
    shared = _condition(processor, "workers").astype(int) > 1
    beside = reach_of_tasks(needed(processor[shared]), list(processor[shared]["task"]))[0]
    processor = processor[~shared]
    itself, modules = identical(root, "cpu"), identical(root, "cuda")
    python, by = processor["scaffold"].isin(["forward", "module"]), _condition(processor, "clock")
    compiled, bodies = (
        reach_of_tasks(needed(part), list(part["task"]))[0]
        for part in (processor[~python & by.eq(clock)], processor[python & by.eq(machine.CPU_CLOCK)])
    )
    same = reach_of_tasks(reaches_of_identical(itself.to_dict("records")), list(itself["task"]))[0]
    calls = modules[["reference_seconds", "candidate_seconds"]].min(axis=1)
    seconds = noise_part(reaches_of_identical(modules.to_dict("records")), events) * calls
    ticks = reach_of_tasks(seconds, list(modules["task"]))[0]
    return BetweenEvaluations(
        cpu=Reach(share=compiled),
        cpu_modules=Reach(share=float(np.nanmax([bodies, same]))),
        side_by_side=Reach(share=beside),
        events=Reach(share=events),
        modules=Reach(share=events, seconds=ticks),
    )


def _condition(found: pd.DataFrame, name: str) -> pd.Series:
    """One of the conditions under which each row of `pairs` was measured; None where it has none of this name."""
    return found["where"].map(lambda where: json.loads(where).get(name)).astype(object)


def main() -> None:
    """Print the tables."""
    root = find_project_root()
    found = pairs(evaluations(recorded_runs(root)))
    for (where, device, scaffold), part in found.groupby(["where", "device", "scaffold"]):
        conditions: Mapping[str, Any] = json.loads(str(where))
        beside = int(conditions["workers"])
        defaults = reaches_under(conditions.get("clock", machine.CPU_CLOCK))
        reach = defaults.reach(str(device), str(scaffold), beside)
        at_once = f", {beside} evaluators side by side" if beside > 1 else ""
        clock = f", clock {conditions['clock']}" if "clock" in conditions else ""
        head = f"{conditions['chip']}, size {conditions['size']}, {scaffold}, {conditions['max_seconds']} s"
        print(f"{head}{clock}{at_once}")
        for label, used in (("recorded", Reach(share=0)), ("widened", reach)):
            told = agreement(part, used)
            print(f"  {label:9}", "  ".join(f"{name} {value:.4g}" for name, value in told.items()))
        most, task = reach_of_tasks(needed(part), list(part["task"]))
        print(f"  reach needed: {most:.4f} ({task or 'all tasks together'})")
    print(recorded_reaches(root, found).model_dump_json(indent=1))


if __name__ == "__main__":
    main()
