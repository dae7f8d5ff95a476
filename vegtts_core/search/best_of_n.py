"""Best-of-N: sample K completions per task, evaluate every distinct candidate, keep all of it as a run.

A run is a function of its parameters: started again after being killed it goes on where it stopped, and started again
after it finished it returns the tables on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.cluster.evaluation import RayEvaluators
from vegtts_core.errors import UserError
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.judging import Judge
from vegtts_core.policy.types import Policy
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import canonical_json
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold
from vegtts_core.search.compute import compute_of
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.search.references import reference_rows
from vegtts_core.search.sampling import Sampling
from vegtts_core.tasks import get_task, load_tasks

KIND = "best_of_n"


def best_of_n(
    parameters: BestOfNParameters,
    folder: Path | None = None,
    *,
    console: Console | None = None,
    policy: Policy | None = None,
) -> Run:
    """Run Best-of-N (or go on with it, or return it if it is done).

    ``folder`` defaults to one named after the parameters in the runs folder. ``console`` shows progress; in a
    notebook leave it out. ``policy`` replaces the one that the parameters name (an already loaded one, which samples
    here whatever ``pool`` says).
    Raises UserError for parameters that do not fit together.
    """
    # The version belongs to a run's identity: other code may measure something else.
    identity = parameters.identity | {"version": __version__}
    if parameters.served is None:
        del identity["served"]  # runs without a server are the same runs as before there was this parameter
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    report = console.print if console else None
    with RunStore.opened(folder, KIND, identity, report) as store:
        if not store.complete:
            Search(parameters, store, console or Console(quiet=True)).run(policy)
    return load_run(folder)


class Search:
    """One run in progress."""

    def __init__(self, parameters: BestOfNParameters, store: RunStore, console: Console):
        self.parameters = parameters
        self.store = store
        self.console = console
        self.tasks = load_tasks(parameters.tasks, parameters.size)
        self.judge = Judge(
            store,
            self.tasks,
            parameters.evaluator,
            parameters.judged_on,
            parameters.protocol,
            parameters.cluster,
            console.print,
        )
        scaffold = self.judge.scaffold(parameters.scaffold)
        examples = [get_task(example, parameters.size) for example in parameters.examples]
        asked = {(task.level, task.id) for task in self.tasks}
        for example in examples:
            if (example.level, example.id) in asked:
                raise UserError(
                    f"Task {example.key} is evaluated and stands as an example in the prompt: take it out of examples."
                )
        self.prompts = {task.key: scaffold.prompt(task, examples) for task in self.tasks}

    def run(self, policy: Policy | None) -> None:
        """Sample what is missing, evaluate what is missing, then write the final tables."""
        with Progress(console=self.console, transient=True) as progress:
            Sampling(self.parameters, self.store, self.console, self.tasks, self.prompts).run(policy, progress)
            rows, facts = self.store.units()
            self._evaluate(self.judge.candidates(rows), progress)
        self.finish(rows, facts)

    def _evaluate(self, candidates: Sequence[Candidate], progress: Progress) -> None:
        have_references = {record["task"] for record in self.store.verdicts() if record["kind"] == "reference"}
        missing = self.judge.unjudged(candidates)
        tasks = [task for task in self.tasks if task.key not in have_references]
        bar = progress.add_task("evaluating", total=len(candidates), completed=len(candidates) - len(missing))
        if not missing and not tasks and not self.judge.not_retimed(candidates):
            return
        # Sampling leaves caches behind that evaluation does not need.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with self.judge.evaluator(self.parameters.scaffold) as evaluator:
            on_cluster = isinstance(evaluator, RayEvaluators)
            given = self.parameters
            limits = evaluator.ceilings() if on_cluster else device_ceilings(given.judged_on, given.evaluator.threads)
            for row in reference_rows(evaluator, ForwardScaffold(), tasks, limits):
                self.store.append_verdict({"kind": "reference"} | row)
            self.judge.judge(evaluator, missing, advance=lambda: progress.advance(bar))
            # Whatever a table selects was lucky to be selected: each candidate that can be is measured once more.
            again = self.judge.not_retimed(candidates)
            second = progress.add_task("timing again", total=len(again))
            self.judge.judge(evaluator, again, again=True, advance=lambda: progress.advance(second))
            if on_cluster:
                for facts in evaluator.facts:
                    self.store.append_verdict({"kind": "worker", "machine": facts["machine"]})

    def finish(
        self, rows: Sequence[dict[str, Any]], facts: Sequence[dict[str, Any]], also: Mapping[str, Any] | None = None
    ) -> None:
        """Write the final tables: judged rows, ``facts`` of their sampling, ``also`` in the manifest."""
        tasks = {row["task"] for row in rows}
        order = {task.key: index for index, task in enumerate(self.tasks) if task.key in tasks}
        references = [record for record in self.store.verdicts() if record["kind"] == "reference"]
        references = [record for record in references if record["task"] in order]
        references.sort(key=lambda record: order[record["task"]])
        samples = [self.judge.row(row) for row in rows]
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {task.key: task.name for task in self.tasks if task.key in order},
            **(also or {}),
        }
        measured_on = [record["machine"] for record in self.store.verdicts() if record["kind"] == "worker"]
        if measured_on:  # on a cluster: every kind of node that measured, once
            kinds = {canonical_json(one): one for one in measured_on}
            manifest |= {"machine": measured_on[0], "machines": list(kinds.values())}
        kept = [{name: value for name, value in record.items() if name != "kind"} for record in references]
        self.store.finish(samples, kept, compute_of(samples, facts, self.judge), manifest)
