"""Recorded rollouts measured again, without paying for them again: the completions stay, what a clock decides is new.

    python -m vegtts_core.remeasuring RUN [RUN ...] --out FOLDER --why "one sentence" [--tasks KEY ...]

For when the evaluator has become better, or another device is asked about. Every distinct candidate that reached a
recorded run's timing is parsed and evaluated anew under that run's settings, once for all runs that have it, and where
the run timed its correct candidates a second time, so are these; references too. What ended before (refused, not
compiled, wrong) stays as it was, and so do sampling, costs and steps. The rewards of a run that moves weights stay as
well: they are what it was trained with. ``--tasks`` leaves all other tasks alone.

``FOLDER/<name of the run>`` is the new run; its manifest says under ``remeasured`` where, with what and why. Verdicts
are in ``FOLDER/verdicts.jsonl`` as they come: a killed call goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.evaluator.types import Stage, Verdict
from vegtts_core.project import find_project_root
from vegtts_core.runs import Run, machine
from vegtts_core.runs.files import append_line, canonical_json, read_lines, sha256_of, write_atomically, write_json
from vegtts_core.runs.rows import retimed_columns, verdict_columns, verdict_from_json, verdict_to_json
from vegtts_core.runs.store import load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold
from vegtts_core.search.references import reference_rows
from vegtts_core.tasks import Size, Task, get_task

Key = tuple[str, str]
"""(task key, fingerprint)"""
#: Columns of a verdict that stay as they were: what evaluating cost then.
_KEPT = ("evaluation_seconds",)
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
        return cls(facts["device"], facts["size"], EvaluatorSettings.model_validate(facts["evaluator"]))


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


@dataclass
class Ledger:
    """New verdicts by candidate, on disk as they come."""

    path: Path
    first: dict[Key, Verdict] = field(default_factory=dict)
    again: dict[Key, Verdict] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path, facts: Mapping[str, Any]) -> Ledger:
        """Goes on where another call left it. Raises UserError if that was on another device or by other code."""
        folder.mkdir(parents=True, exist_ok=True)
        measured = folder / "measured.json"
        if measured.is_file() and json.loads(measured.read_text(encoding="utf-8")) != json.loads(canonical_json(facts)):
            raise UserError(f"{folder} was begun on another machine or at another commit: name another folder.")
        write_json(measured, facts)
        ledger = cls(folder / "verdicts.jsonl")
        for record in read_lines(ledger.path):
            ledger._take(record)
        return ledger

    def add(self, kind: str, value: Verdict | dict[str, Any]) -> None:
        """``kind``: first, again or reference."""
        record = {"kind": kind, "value": verdict_to_json(value) if isinstance(value, Verdict) else value}
        append_line(self.path, record)
        self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "reference":
            self.references[record["value"]["task"]] = record["value"]
        else:
            verdict = verdict_from_json(record["value"])
            into = self.first if record["kind"] == "first" else self.again
            into[verdict.task_key, verdict.fingerprint] = verdict


def candidates_of(run: Run, tasks: Mapping[str, Task], device: str) -> dict[Key, Candidate]:
    """The distinct candidates of ``tasks`` that reached timing. Raises UserError if one is read otherwise today."""
    found: dict[Key, Candidate] = {}
    for task, scaffold, completion, fingerprint, stage in zip(
        *(run.samples[name] for name in ("task", "scaffold", "completion", "fingerprint", "stage")), strict=True
    ):
        if stage not in _TIMED or task not in tasks:
            continue
        if (task, fingerprint) in found:
            continue
        parsed = scaffold_for(scaffold, device).parse(tasks[task], completion)
        if not isinstance(parsed, Candidate) or parsed.fingerprint != fingerprint:
            raise UserError(
                f"A completion of {run.folder.name} for {task} is not the candidate any more that was recorded "
                f"({fingerprint}): its scaffold or task has changed since; measure it at the run's own commit."
            )
        found[task, fingerprint] = parsed
    return found


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


def measure(runs: Sequence[Run], keys: Sequence[str], conditions: Conditions, ledger: Ledger, console: Console) -> None:
    """Fill the ledger, task by task. Raises UserError as the evaluator does."""
    tasks = {key: get_task(key, Size(conditions.size)) for key in keys}
    per_run = [(run, candidates_of(run, tasks, conditions.device)) for run in runs]
    wanted = {key: candidate for _, found in per_run for key, candidate in found.items()}
    twice = {key for run, found in per_run if timed_again(run) for key in found}
    referred = {key for run in runs if len(run.references) for key in run.references["task"]}
    scaffold = next(iter(wanted.values())).scaffold if wanted else "forward"
    with (
        Progress(console=console, transient=True) as progress,
        evaluator_for(scaffold, conditions.device, tasks.values(), conditions.settings) as evaluator,
    ):
        bar = progress.add_task("measuring again", total=len(wanted) + len(twice))
        missing = [tasks[key] for key in keys if key in referred and key not in ledger.references]
        if missing:
            limits = device_ceilings(conditions.device, conditions.settings.threads)
            for row in reference_rows(evaluator, ForwardScaffold(), missing, limits):
                ledger.add("reference", row)

        def keep(kind: str, verdict: Verdict) -> None:
            ledger.add(kind, verdict)
            progress.advance(bar)

        for task in keys:
            mine = [candidate for key, candidate in wanted.items() if key[0] == task]
            todo = [one for one in mine if _key(one) not in ledger.first]
            progress.advance(bar, len(mine) - len(todo))
            evaluator.evaluate(todo, on_verdict=lambda _, verdict: keep("first", verdict))
            second = [one for one in mine if _key(one) in twice and _key(one) not in ledger.again]
            right = [one for one in second if ledger.first[_key(one)].error is None]
            evaluator.evaluate(right, on_verdict=lambda _, verdict: keep("again", verdict), fresh=True)


def _key(candidate: Candidate) -> Key:
    return candidate.task_key, candidate.fingerprint


def rewritten(run: Run, keys: Sequence[str], ledger: Ledger) -> pa.Table:
    """The run's samples with the new verdicts of these tasks, in the old ones' schema and order."""
    old = pq.read_table(run.folder / "samples.parquet")
    rows = old.to_pylist()
    rewards = run.manifest["kind"] in ("best_of_n", "probe")
    for row in rows:
        if row["stage"] not in _TIMED or row["task"] not in keys:
            continue
        verdict = ledger.first[row["task"], row["fingerprint"]]
        again = ledger.again.get((row["task"], row["fingerprint"]))
        reward = verdict.sound.reward if verdict.sound else 0.0
        columns = verdict_columns(verdict, reward if rewards else row["reward"])
        if timed_again(run):
            columns |= dict.fromkeys((name for name in row if name.startswith("retimed_")), None)
            columns |= retimed_columns(again) if again else {}
        for protocol in ("published", "sound"):  # a verdict may have less to say than the one before
            named = (name for name in row if name.startswith(f"{protocol}_") and name not in columns)
            columns |= dict.fromkeys(named, None)
        row |= {name: value for name, value in columns.items() if name in row and name not in _KEPT}
    return pa.Table.from_pylist(rows, schema=old.schema)


def write(run: Run, keys: Sequence[str], ledger: Ledger, target: Path, facts: Mapping[str, Any]) -> None:
    """The run with its new verdicts of these tasks, as a folder of its own."""
    target.mkdir(parents=True, exist_ok=True)
    for name in run.manifest["files"]:
        shutil.copyfile(run.folder / name, target / name)
    table = rewritten(run, keys, ledger)
    write_atomically(target / "samples.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
    corrections = [text for text in run.manifest.get("corrections", ()) if not text.startswith("references.json")]
    if len(run.references):
        old = run.references.to_dict("records")
        write_json(
            target / "references.json", [ledger.references[row["task"]] if row["task"] in keys else row for row in old]
        )
    manifest = {name: value for name, value in run.manifest.items() if name != "corrections"}
    manifest |= {"corrections": corrections} if corrections else {}
    files = {name: about | {"sha256": sha256_of(target / name)} for name, about in manifest["files"].items()}
    own = set(zip(run.samples["task"], run.samples["fingerprint"], strict=True))
    tasks = sorted({key for key, _ in own} & set(keys))
    counts = {"before": decisions(run), "after": decisions(replace(run, samples=table.to_pandas()))}
    changed = {name: {decision: int(n) for decision, n in found.items()} for name, found in counts.items()}
    about = {
        **facts,
        "decisions": changed,
        "tasks": tasks,
        "candidates": sum(key in own and key[0] in keys for key in ledger.first),
    }
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
    ledger = Ledger.opened(out, facts)
    keys = chosen_tasks(runs, only)
    measure(runs, keys, conditions, ledger, console)
    for run in runs:
        write(run, keys, ledger, out / run.folder.name, facts)
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
