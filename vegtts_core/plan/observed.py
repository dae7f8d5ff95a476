"""Rates and writing from recorded runs: what each step had to do, beside the seconds that its record says it took.

Runs are only pooled where policy, device and machine are the same. It knows runs, and their work as a plan counts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.errors import UserError
from vegtts_core.plan.counts import Group, Work, work_of
from vegtts_core.plan.families import recorded_family
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.plan.rates import Observations, Rates
from vegtts_core.plan.waves import call_batches
from vegtts_core.plan.writing import Writing, writing_of
from vegtts_core.runs.store import COMPLETE, Run, load_run

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
    run = load_run(folder)
    manifest = run.manifest
    family = recorded_family(manifest["kind"], folder.name, manifest["parameters"])
    if family is None:
        return None
    given = manifest["parameters"]
    if "scaffold" not in run.samples:  # tables of Best-of-N had one scaffold, named in its parameters alone
        run = replace(run, samples=run.samples.assign(scaffold=given["scaffold"]))
    work = work_of(family, prompt_counter(given["policy"]))
    found = Observations()
    if manifest["kind"] == "best_of_n":
        found.sampling.append(_sampled(work, work.calls, run.samples, run.compute["sampling_seconds"]))
        spent = run.compute["evaluation_seconds"]
    else:
        spent = _observe_steps(run, work, found)
    _observe_candidates(run, found, spent)
    place = _place(manifest)
    writing = writing_of(run.samples, folder.name, given["policy"], given.get("adapter"), given)
    return Observed(folder.name, given["policy"], place, settings_of(given["evaluator"]), found, writing)


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


def _observe_steps(run: Run, work: Work, found: Observations) -> float:
    """Steps of a run that moves weights; returns the seconds that it spent on evaluation."""
    spent = 0.0
    for record in run.steps.to_dict("records"):
        step = int(record["step"])
        rows = run.samples[run.samples["step"] == step]
        if step < len(work.calls) and work.calls[step]:
            found.sampling.append(_sampled(work, [work.calls[step]], rows, record["sampling_seconds"]))
        spent += record["evaluation_seconds"] if record.get("evaluated", 1) else 0.0
        if work.family.kind != "adaptation" or step >= len(work.updates):
            continue
        groups = work.updates[step]
        heard = len(groups) - int(record["silent_groups"])
        found.groups.append((len(groups), heard))
        prompt = sum(group.ask.tokens for group in groups)
        texts = _distinct_tokens(rows)
        if record["update_seconds"] > 0:
            share = heard / len(groups)
            found.update.append((prompt * share, texts * share, record["update_seconds"]))
        told = record.get("distillation")
        if isinstance(told, Mapping):
            every = told["all"]
            passes = prompt + texts + every["distinct_context_tokens"] + texts
            found.scoring.append((passes, record["preparing_seconds"]))
            if work.family.parameters.distillation.feedback:  # type: ignore[attr-defined]
                row = (every["rollouts"], every["prompt_tokens"], every["context_tokens"])
                found.taught.append((*row, every["distinct_context_tokens"]))
    return spent


def _observe_candidates(run: Run, found: Observations, spent: float) -> None:
    """Verdicts' own seconds, scaled to what evaluation took in all (sessions and processes start in between).

    A run whose evaluation was resumed, so that its record has next to nothing of it, keeps the verdicts' seconds.
    """
    protocol = f"{run.manifest['parameters']['protocol']}_correct"
    first = run.samples[run.samples["fingerprint"].notna()].drop_duplicates(["task", "scaffold", "fingerprint"])
    total = float(first["evaluation_seconds"].sum())
    workers = int(run.manifest["parameters"]["evaluator"].get("workers", 1))
    scale = spent * workers / total if total and 0.5 < spent * workers / total < 2 else 1.0
    for row in first.to_dict("records"):
        slot = (row["scaffold"], row["task"])
        found.candidates.setdefault(slot, []).append((row["evaluation_seconds"] * scale, bool(row[protocol])))


def _sampled(
    work: Work, calls: Iterable[Sequence[Group]], rows: pd.DataFrame, seconds: float
) -> tuple[float, float, float, float]:
    """(prompt tokens computed, decoding steps, completion tokens, seconds) of calls that wrote ``rows``."""
    lengths = {
        key: part["tokens"].to_numpy() for key, part in rows.groupby(["scaffold", "task", "seed"], sort=False)
    }
    seeds = list(dict.fromkeys(rows["seed"]))
    prompt = steps = tokens = 0.0
    calls = list(calls)
    per_seed = len(calls) // len(seeds)
    for number, call in enumerate(calls):
        seed = seeds[number // per_seed]
        prompt += sum(group.ask.tokens for group in call)
        for batch, wave in call_batches(work, call):
            written = np.concatenate([lengths[call[i].ask.scaffold, call[i].ask.task, seed] for i in batch])
            steps += sum(int(written[start : start + wave].max()) for start in range(0, len(written), wave))
            tokens += float(written.sum())
    return prompt, steps, tokens, seconds


def _distinct_tokens(rows: pd.DataFrame) -> float:
    return float(
        sum(
            sum(map(len, {tuple(ids) for ids in part["token_ids"]}))
            for _, part in rows.groupby(["scaffold", "task"])
        )
    )
