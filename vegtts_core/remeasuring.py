"""Recorded rollouts measured again, without paying for them again: the completions stay, what a clock decides is new.

    python -m vegtts_core.remeasuring RUN [RUN ...] --out FOLDER --why "one sentence" [--tasks KEY ...]

For when the evaluator has become better, or another device is asked about. Every distinct candidate that reached a
recorded run's timing is parsed and evaluated anew under that run's settings (but for ``between_evaluations``, which are
today's), once for all runs that have it, and where the run timed its correct candidates a second time, so are these;
references too. What ended before (refused, not compiled, wrong) stays as it was, and so do sampling, costs and steps.
The rewards of a run that moves weights stay as well: they are what it was trained with. ``--tasks`` leaves all other
tasks alone.

``FOLDER/<name of the run>`` is the new run; its manifest says under ``remeasured`` where, with what and why. Verdicts
are in ``FOLDER/verdicts`` as they come: a killed call goes on where it was, on the same machine at the same commit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.evaluator.settings import BetweenEvaluations
from vegtts_core.evaluator.types import ProtocolName, Stage
from vegtts_core.judging import Judge
from vegtts_core.project import find_project_root
from vegtts_core.runs import Run, machine
from vegtts_core.runs.files import canonical_json, sha256_of, write_atomically, write_json
from vegtts_core.runs.intervals import BETWEEN
from vegtts_core.runs.schema import SAMPLES
from vegtts_core.runs.store import RunStore, load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold
from vegtts_core.search.references import reference_rows
from vegtts_core.tasks import Size, get_task

#: Columns of a verdict that stay as they were: what evaluating cost then.
_KEPT = ("evaluation_seconds",)
#: Columns that only a verdict fills, by how they begin: a new one may have less to say than the one before.
_MEASURED = ("published_", "sound_", "retimed_")
_TIMED = (Stage.TIMING.value, Stage.REWARD.value)


@dataclass(frozen=True)
class Conditions:
    """What candidates are measured under; the same for all runs of one call."""

    device: str
    size: str
    settings: EvaluatorSettings

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Conditions:
        """Raises UserError if the runs' own conditions differ: one call measures under one."""
        found = {run.folder.name: _conditions(run, runs) for run in runs}
        if len({canonical_json(facts) for facts in found.values()}) > 1:
            raise UserError(f"{' and '.join(found)} were not measured under the same settings: take them one by one.")
        facts = next(iter(found.values()))
        settings = EvaluatorSettings.model_validate(facts["evaluator"])
        # What differs between evaluations is the clock's, and the clock is today's.
        sound = settings.sound.model_copy(update={"between_evaluations": BetweenEvaluations()})
        return cls(facts["device"], facts["size"], settings.model_copy(update={"sound": sound}))


def _conditions(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    parameters = run.manifest["parameters"]
    if run.manifest["kind"] == "probe":  # its candidates are another run's
        origin = parameters["origin"]["samples"]
        others = [other for other in runs if other.folder.name == origin]
        if not others:
            raise UserError(f"The probe {run.folder.name} scored {origin}: name that run as well.")
        return _conditions(others[0], runs)
    if "evaluator" not in parameters:
        raise UserError(f"{run.folder.name} is a {run.manifest['kind']} run without evaluations: leave it out.")
    device = parameters.get("evaluation_device") or parameters["device"]
    return {"device": device, "size": parameters["size"], "evaluator": parameters["evaluator"]}


def candidates_of(run: Run, keys: Sequence[str], judge: Judge) -> list[Candidate]:
    """The distinct candidates of these tasks that reached timing. Raises UserError if one is read otherwise today."""
    timed = [row for row in run.samples.to_dict("records") if _is_timed(row, keys)]
    for row in timed:
        parsed = judge.parse(row)
        if not isinstance(parsed, Candidate) or parsed.fingerprint != row["fingerprint"]:
            raise UserError(
                f"A completion of {run.folder.name} for {row['task']} is not the candidate any more that was recorded "
                f"({row['fingerprint']}): its scaffold or task has changed since; measure it at the run's own commit."
            )
    return judge.candidates(timed)


def timed_again(run: Run) -> bool:
    """Whether the run evaluated its correct candidates a second time."""
    return "retimed_correct" in run.samples and bool(run.samples["retimed_correct"].notna().any())


def chosen_tasks(runs: Sequence[Run], only: Sequence[str] = ()) -> list[str]:
    """Keys of the runs' tasks; of ``only`` those, where any are named. Raises UserError for one that no run has."""
    keys = sorted({key for run in runs for key in run.samples["task"].unique()})
    unknown = sorted(set(only) - set(keys))
    if unknown:
        raise UserError(f"No run has a task {unknown[0]!r}: they have {', '.join(keys)}.")
    return [key for key in keys if not only or key in only]


def measure(runs: Sequence[Run], keys: Sequence[str], judge: Judge, console: Console) -> None:
    """Fill the judge's store, task by task. Raises UserError as the evaluator does."""
    per_run = [(run, candidates_of(run, keys, judge)) for run in runs]
    wanted = judge.candidates(row for run in runs for row in run.samples.to_dict("records") if _is_timed(row, keys))
    twice = {(one.task_key, one.fingerprint) for run, found in per_run if timed_again(run) for one in found}
    referred = {key for run in runs if len(run.references) for key in run.references["task"]}
    known = references_in(judge.store)
    with (
        Progress(console=console, transient=True) as progress,
        judge.evaluator(wanted[0].scaffold if wanted else "forward") as evaluator,
    ):
        bar = progress.add_task("measuring again", total=len(wanted) + len(twice))
        missing = [judge.tasks[key] for key in keys if key in referred and key not in known]
        if missing:
            limits = device_ceilings(judge.device, judge.settings.threads)
            for row in reference_rows(evaluator, ForwardScaffold(), missing, limits):
                judge.store.append_verdict({"kind": "reference"} | row)
        for key in keys:
            mine = [candidate for candidate in wanted if candidate.task_key == key]
            todo = judge.unjudged(mine)
            progress.advance(bar, len(mine) - len(todo))
            judge.judge(evaluator, todo, advance=lambda: progress.advance(bar))
            again = judge.not_retimed(one for one in mine if (one.task_key, one.fingerprint) in twice)
            judge.judge(evaluator, again, again=True, advance=lambda: progress.advance(bar))


def references_in(store: RunStore) -> dict[str, dict[str, Any]]:
    """New rows of ``references`` by task."""
    found = (record for record in store.verdicts() if record["kind"] == "reference")
    return {row["task"]: {name: value for name, value in row.items() if name != "kind"} for row in found}


def rewritten(run: Run, keys: Sequence[str], judge: Judge) -> pa.Table:
    """The run's samples with the new verdicts of these tasks, in the old ones' order, in today's schema."""
    old = pq.read_table(run.folder / "samples.parquet")
    schema = pa.schema([field for field in SAMPLES if field.name in (*old.schema.names, BETWEEN)])
    moves_weights = run.manifest["kind"] not in ("best_of_n", "probe")
    kept = (*_KEPT, "reward") if moves_weights else _KEPT
    again = timed_again(run)
    rows = []
    for row in old.to_pylist():
        if _is_timed(row, keys):
            measured = dict.fromkeys((name for name in row if name.startswith(_MEASURED)), None)
            new = judge.row(row | measured)
            new |= {name: row[name] for name in kept}
            kept_too = () if again else [name for name in row if name.startswith("retimed_")]
            row = {name: row[name] if name in kept_too else new.get(name) for name in schema.names}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


def _is_timed(row: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return row["stage"] in _TIMED and row["task"] in keys


def write(run: Run, keys: Sequence[str], judge: Judge, target: Path, facts: Mapping[str, Any]) -> None:
    """The run with its new verdicts of these tasks, as a folder of its own."""
    target.mkdir(parents=True, exist_ok=True)
    for name in run.manifest["files"]:
        shutil.copyfile(run.folder / name, target / name)
    table = rewritten(run, keys, judge)
    write_atomically(target / "samples.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
    if len(run.references):
        old = json.loads((run.folder / "references.json").read_text(encoding="utf-8"))
        new = references_in(judge.store)
        write_json(target / "references.json", [new[row["task"]] if row["task"] in keys else row for row in old])
    corrections = [text for text in run.manifest.get("corrections", ()) if not text.startswith("references.json")]
    manifest = {name: value for name, value in run.manifest.items() if name != "corrections"}
    manifest |= {"corrections": corrections} if corrections else {}
    files = {name: about | {"sha256": sha256_of(target / name)} for name, about in manifest["files"].items()}
    counts = {"before": decisions(run), "after": decisions(replace(run, samples=table.to_pandas()))}
    past = run.manifest.get("remeasured")
    measured = sorted(set(run.samples["task"]) & {*keys, *(past["tasks"] if past else ())})
    about = {
        **facts,
        "decisions": {when: {name: int(n) for name, n in found.items()} for when, found in counts.items()},
        "tasks": measured,
        "candidates": len({(row["task"], row["fingerprint"]) for row in table.to_pylist() if _is_timed(row, measured)}),
    }
    if past:  # some of its tasks before: the first decisions stay those before, and how it was then is told as well
        about["decisions"]["before"] = past["decisions"]["before"]
        told = {name: past[name] for name in past if name not in ("decisions", "earlier")}
        about["earlier"] = [*past.get("earlier", ()), told]
    write_json(target / "manifest.json", manifest | {"files": files, "remeasured": about})
    load_run(target)


def decisions(run: Run) -> pd.Series:
    """How many distinct candidates that reached timing got each decision of the sound protocol."""
    distinct = run.samples.drop_duplicates(subset=["task", "fingerprint"])
    return distinct.loc[distinct["stage"].isin(_TIMED), "sound_decision"].value_counts()


def remeasure(
    folders: Iterable[Path], out: Path, why: str, only: Sequence[str] = (), console: Console | None = None
) -> list[Path]:
    """Measure the runs in ``folders`` again, into ``out``; ``only``: these tasks (all if none is named).

    Returns the new runs' folders. Raises UserError.
    """
    console = console or Console(stderr=True)
    runs = [load_run(folder) for folder in folders]
    conditions = Conditions.of(runs)
    facts = machine.facts(conditions.device, find_project_root()) | {"why": why}
    keys = chosen_tasks(runs, only)
    tasks = [get_task(key, Size(conditions.size)) for key in keys]
    with RunStore.opened(out / "verdicts", "remeasuring", facts, console.print) as store:
        for_all = Judge(store, tasks, conditions.settings, conditions.device, ProtocolName.SOUND)
        measure(runs, keys, for_all, console)
        for run in runs:
            protocol = ProtocolName(run.manifest["parameters"].get("protocol", ProtocolName.SOUND))
            judge = Judge(store, tasks, conditions.settings, conditions.device, protocol)
            write(run, keys, judge, out / run.folder.name, facts)
    return [out / run.folder.name for run in runs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m vegtts_core.remeasuring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="where the new runs go")
    parser.add_argument("--tasks", nargs="+", default=[], help="keys of tasks, as in level1/12: only these")
    parser.add_argument("--why", required=True, help="one sentence for the manifests")
    chosen = parser.parse_args(arguments)
    try:
        for old, new in zip(chosen.runs, remeasure(chosen.runs, chosen.out, chosen.why, chosen.tasks), strict=True):
            before, after = decisions(load_run(old)), decisions(load_run(new))
            names = sorted({*before.index, *after.index})
            print(new, *(f"{name} {before.get(name, 0)} -> {after.get(name, 0)}" for name in names), sep="  ")
    except (UserError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
