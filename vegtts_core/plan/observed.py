"""Rates and writing from recorded runs: what each step had to do, beside the seconds that its record says it took.

Runs are only pooled where policy, device and machine are the same. It knows runs, and their work as a plan counts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vegtts_core.errors import UserError
from vegtts_core.plan.counts import Group, Work, work_of
from vegtts_core.plan.families import recorded_family
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.plan.rates import Judged, Observations, Rates
from vegtts_core.plan.waves import call_batches
from vegtts_core.plan.writing import Writing, writing_of
from vegtts_core.runs.store import COMPLETE, Run, load_run

Row = Mapping[str, Any]

#: Facts of a machine that must agree for its rates to be another's.
SAME = ("cpu", "cores", "device")


@dataclass(frozen=True)
class Observed:
    """One run's observations and writing; ``place`` as in `Rates`."""

    name: str
    policy: str
    place: dict[str, Any]
    settings: dict[str, Any]
    observations: Observations
    writing: Writing | None


def observe(folder: Path) -> Observed | None:
    """What a finished run shows; None for a kind that shows nothing. Raises UserError as `load_run`."""
    manifest = folder / "manifest.json"
    return _observe(folder, manifest.stat().st_mtime_ns if manifest.is_file() else 0)


@cache
def _observe(folder: Path, stamp: int) -> Observed | None:
    """Read once; ``stamp`` is another if the run was written anew."""
    run = load_run(folder)
    manifest = run.manifest
    family = recorded_family(manifest["kind"], folder.name, manifest["parameters"])
    if family is None or manifest.get("cut"):  # a run that was cut lacks part of the work that it is priced by
        return None
    given = manifest["parameters"]
    # Tables of Best-of-N once had one scaffold, named in the parameters alone.
    rows = [{"scaffold": given.get("scaffold")} | row for row in pq.read_table(folder / "samples.parquet").to_pylist()]
    work = work_of(family, prompt_counter(given["policy"]))
    found = Observations()
    if manifest["kind"] == "best_of_n":
        found.sampling.append(_sampled(work, work.calls, rows, run.compute["sampling_seconds"]))
        spent = run.compute["evaluation_seconds"]
    else:
        spent = _observe_steps(run, work, rows, found)
    _observe_candidates(run, rows, found, spent)
    writing = writing_of(rows, folder.name, given["policy"], given.get("adapter"), given)
    settings = settings_of(given["evaluator"])
    return Observed(folder.name, given["policy"], _place(manifest), settings, found, writing)


def observe_all(folder: Path) -> list[Observed]:
    """Every finished run in a folder of runs that shows something, by name."""
    found = []
    for manifest in sorted(folder.glob("*/manifest.json")):
        if json.loads(manifest.read_text(encoding="utf-8")).get("status") == COMPLETE:
            each = observe(manifest.parent)
            found += [each] if each is not None else []
    return found


def settings_of(evaluator: Mapping[str, Any]) -> dict[str, Any]:
    """What of an evaluator's settings moves its seconds per candidate."""
    sound, published = evaluator["sound"], evaluator["published"]
    found: dict[str, Any] = {"protocols": sorted(str(name) for name in evaluator["protocols"])}
    if "sound" in found["protocols"]:
        found |= {name: sound[name] for name in ("max_seconds", "confirmations", "benchmark_draws", "wide_draws")}
    if "published" in found["protocols"]:
        found |= {name: published[name] for name in ("correctness_trials", "timing_trials")}
    return found


def _place(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of a run, ``device`` and ``gpu`` being those of its policy (candidates may run elsewhere)."""
    kind, _, gpu = str(manifest["policy"]["device"]).partition(" ")
    return dict(manifest["machine"]) | {"device": kind} | ({"gpu": gpu.strip("()")} if gpu else {})


def same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two machines are of one kind: processor, cores, where the policy runs, and that GPU.

    The number of torch's threads may differ: two recorded kinds differ in it by less than two runs of one kind do.
    """
    names = SAME if one.get("device") == "cpu" else (*SAME, "gpu")
    return all(one.get(name) == other.get(name) for name in names)


def rates_of(observed: Sequence[Observed]) -> Rates:
    """Rates of runs on one kind of machine by one policy. Raises UserError where they are of several."""
    first = observed[0]
    for other in observed[1:]:
        if other.policy != first.policy or not same_place(first.place, other.place):
            raise UserError(
                f"{first.name} and {other.name} were not made by one policy on one kind of machine: give rates of one."
            )
    together = Observations()
    for each in observed:
        together.add(each.observations)
    return together.rates(
        policy=first.policy,
        sources=tuple(each.name for each in observed),
        place=first.place,
        settings=first.settings,
    )


def _observe_steps(run: Run, work: Work, rows: Sequence[Row], found: Observations) -> float:
    """Steps of a run that moves weights; returns the seconds that it spent on evaluation."""
    spent = 0.0
    for record in run.steps.to_dict("records"):
        step = int(record["step"])
        own = [row for row in rows if row["step"] == step]
        if step < len(work.calls) and work.calls[step]:
            found.sampling.append(_sampled(work, [work.calls[step]], own, record["sampling_seconds"]))
        spent += record["evaluation_seconds"]
        if work.family.kind == "adaptation" and step < len(work.updates):
            _observe_update(work, step, record, _distinct_tokens(own), found)
    return spent


def _observe_update(work: Work, step: int, record: Row, texts: float, found: Observations) -> None:
    """What followed a step's rollouts: a teacher's passes, if there is one, and the update of its groups."""
    groups = work.updates[step]
    heard = len(groups) - int(record["silent_groups"])
    found.groups.append((len(groups), heard))
    prompt = float(sum(group.ask.tokens for group in groups))
    if record["update_seconds"] > 0:
        # Which groups were silent is not recorded: they count as groups of the mean size.
        share = heard / len(groups)
        found.update.append((prompt * share, texts * share, record["update_seconds"]))
    told = record.get("distillation")
    if not isinstance(told, Mapping):
        return
    every = told["all"]
    passes = prompt + texts + every["distinct_context_tokens"] + texts
    found.scoring.append((passes, record["preparing_seconds"]))
    parameters: Any = work.family.parameters
    if parameters.distillation.feedback:
        found.taught.append((every["rollouts"], every["prompt_tokens"], every["context_tokens"]))


def _observe_candidates(run: Run, rows: Sequence[Row], found: Observations, spent: float) -> None:
    """Verdicts' own seconds, scaled to what evaluation took in all (sessions and processes start in between).

    A run that was resumed while it evaluated, so that its record lacks much of it, keeps the verdicts' seconds.
    """
    given = run.manifest["parameters"]
    distinct: dict[tuple[str, str], Row] = {}
    begun: set[tuple[int, str]] = set()
    firsts: set[tuple[str, str]] = set()
    # A step's new candidates are evaluated task by task, in the order in which they were written.
    for row in sorted(rows, key=lambda row: (row["step"], row["task"], row["seed"], row["sample"])):
        key = row["task"], row["fingerprint"]
        if row["fingerprint"] and key not in distinct:
            distinct[key] = row
            if (row["step"], row["task"]) not in begun:
                begun.add((row["step"], row["task"]))
                firsts.add(key)
    total = float(sum(row["evaluation_seconds"] for row in distinct.values()))
    workers = int(given["evaluator"].get("workers", 1))
    scale = spent * workers / total if total and 0.5 < spent * workers / total < 2 else 1.0
    for key, row in distinct.items():
        correct = bool(row[f"{given['protocol']}_correct"])
        judged = Judged(row["evaluation_seconds"] * scale, correct, key in firsts)
        found.candidates.setdefault(row["scaffold"], []).append(judged)


def _sampled(
    work: Work, calls: Sequence[Sequence[Group]], rows: Sequence[Row], seconds: float
) -> tuple[float, float, float, float]:
    """(prompt tokens computed, decoding steps, completion tokens, seconds) of calls that wrote ``rows``."""
    lengths: dict[tuple[str, str, int], list[int]] = {}
    for row in rows:
        lengths.setdefault((row["scaffold"], row["task"], row["seed"]), []).append(int(row["tokens"]))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    per_seed = len(calls) // len(seeds)
    prompt = steps = tokens = 0
    for number, call in enumerate(calls):
        seed = seeds[number // per_seed]
        prompt += sum(group.ask.tokens for group in call)
        for batch, wave in call_batches(work, call):
            written = [
                length for place in batch for length in lengths[call[place].ask.scaffold, call[place].ask.task, seed]
            ]
            steps += sum(max(written[start : start + wave]) for start in range(0, len(written), wave))
            tokens += sum(written)
    return float(prompt), float(steps), float(tokens), seconds


def _distinct_tokens(rows: Sequence[Row]) -> float:
    """Tokens of the different completions of each group, all groups together."""
    found = {(row["scaffold"], row["task"], tuple(row["token_ids"])) for row in rows}
    return float(sum(len(ids) for _, _, ids in found))
