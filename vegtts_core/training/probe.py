"""The probe of section 5.3b: fixed samples, scored by every checkpoint of an adaptation run.

    python -m vegtts_core.training.probe --run data/runs/adaptation_cpu_42 --samples data/runs/adaptation_cpu_43 \
        --out data/runs/probe_cpu_42

Only the scoring model varies. The NLL is minus log p of a completion's tokens after its own prompt, in nats, under the
untempered policy; each prompt is computed once per checkpoint. Nothing is sampled, executed or trained. The samples are
the base policy's (step 0); those of the adaptation run itself were the data of its first update, so another seed's make
the cleaner probe: which it was, the manifest says.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.policy import load_policy
from vegtts_core.policy.types import Policy
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import canonical_json, write_atomically
from vegtts_core.runs.intervals import with_between_evaluations
from vegtts_core.runs.rows import identity_facts
from vegtts_core.runs.schema import KEY
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.scaffolds import Prompt
from vegtts_core.tasks import Size
from vegtts_core.training.run_adapters import StepAdapter, run_adapters
from vegtts_core.training.slots import build_slots

KIND = "probe"
TABLE = "probe.parquet"

NLL = pa.schema(
    [
        pa.field("row", pa.int64(), metadata={"doc": "position in samples.parquet"}),
        pa.field("step", pa.int64(), metadata={"doc": "the checkpoint that scored; 0 is the policy it started from"}),
        pa.field("task", pa.string(), metadata={"doc": "task key"}),
        pa.field("seed", pa.int64(), metadata={"doc": "seed that drew the sample"}),
        pa.field("sample", pa.int64(), metadata={"doc": "its number within (task, seed)"}),
        pa.field("nll_mean", pa.float64(), metadata={"doc": "nats per token"}),
        pa.field("nll_sum", pa.float64(), metadata={"doc": "nats per completion"}),
        pa.field("tokens", pa.int64(), metadata={"doc": "completion tokens"}),
    ]
)
"""Columns of ``probe.parquet``: one row per (sample, checkpoint)."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """A finished probe: ``samples`` (the fixed ones, `schema.SAMPLES`) and ``nll`` (`NLL`'s columns)."""

    folder: Path
    manifest: dict[str, Any]
    samples: pd.DataFrame
    nll: pd.DataFrame


def load_probe(folder: Path) -> Probe:
    """A finished probe, checked against its manifest, with today's intervals (`vegtts_core.runs.intervals`).

    Raises UserError as `load_run`, and for a run of another kind.
    """
    run = with_between_evaluations(load_run(folder))
    if run.manifest["kind"] != KIND:
        raise UserError(f"{folder.name} holds a run of kind {run.manifest['kind']}, no probe: name another folder.")
    return Probe(folder, run.manifest, run.samples, pq.read_table(folder / TABLE).to_pandas())


def fixed_samples(run: Run, first: int | None = None, seed: int | None = None) -> list[dict[str, Any]]:
    """What the base policy wrote in ``run`` (step 0): of one seed or all, the ``first`` of each task or all.

    In the order of `schema.KEY`; completions without a token are left out. Raises UserError if nothing is left.
    """
    rows = [
        row
        for row in pq.read_table(run.folder / "samples.parquet").to_pylist()
        if row["step"] == 0
        and row["tokens"]
        and (first is None or row["sample"] < first)
        and seed in (None, row["seed"])
    ]
    if not rows:
        raise UserError(f"{run.folder.name} has no samples of step 0 that fit: choose another seed or run.")
    if any(row["token_ids"] is None for row in rows):
        raise UserError(
            f"{run.folder.name} was sampled from a server that tells no token ids: score a run of another policy."
        )
    return sorted(rows, key=lambda row: tuple(row[name] for name in KEY))


def prompts_of(run: Run) -> dict[str, Prompt]:
    """The prompts of a Best-of-N or adaptation run by their ids, built anew from its parameters."""
    given = run.manifest["parameters"]
    scaffolds = given.get("scaffolds") or [given["scaffold"]]
    place = given["evaluation_device"] or given["device"]
    slots = build_slots(given["tasks"], scaffolds, Size(given["size"]), given["examples"], place)
    return {slot.prompt.id: slot.prompt for slot in slots}


def score(policy: Policy, step: int, rows: Sequence[Row], prompts: Mapping[str, Prompt]) -> list[dict[str, Any]]:
    """One row of `NLL` per sample under ``policy``, which stands for checkpoint ``step``.

    Raises UserError for a sample whose prompt is not among ``prompts``.
    """
    members: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        members.setdefault(row["prompt_id"], []).append(place)
    unknown = sorted(set(members) - set(prompts))
    if unknown:
        raise UserError(f"The prompt {unknown[0]} of the samples is not one that this version asks: sample them again.")
    found: dict[int, dict[str, Any]] = {}
    groups = [[rows[place]["token_ids"] for place in places] for places in members.values()]
    scores = policy.score([prompts[name] for name in members], groups)
    for places, group in zip(members.values(), scores, strict=True):
        for place, each in zip(places, group, strict=True):
            row, total = rows[place], -sum(each.logprobs)
            found[place] = {"row": place, "step": step} | {name: row[name] for name in ("task", "seed", "sample")}
            found[place] |= {"nll_mean": total / len(each.logprobs), "nll_sum": total, "tokens": len(each.logprobs)}
    return [found[place] for place in range(len(rows))]


def probe(
    rows: Sequence[Row],
    prompts: Mapping[str, Prompt],
    adapters: Mapping[int, StepAdapter],
    policy: str,
    folder: Path,
    *,
    device: str = "cpu",
    origin: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Probe:
    """Score ``rows`` (`fixed_samples`) under ``policy`` with each adapter; go on with what is there, or return it.

    ``adapters``: by step. ``origin``: where rows and adapters come from, for the manifest's parameters. A checkpoint's
    scores are on disk before the next one's begin. Raises UserError if the folder holds a probe of something else.
    """
    given = {"version": __version__, "policy": policy, "device": device, "origin": dict(origin or {})}
    given["adapters"] = {str(step): adapter.facts() for step, adapter in sorted(adapters.items())}
    say = console.print if console else lambda *_: None
    with RunStore.opened(folder, KIND, given, say) as store:
        if not store.complete:
            _score_all(store, rows, prompts, adapters, policy, device, say)
    return load_probe(folder)


def _score_all(
    store: RunStore,
    rows: Sequence[Row],
    prompts: Mapping[str, Prompt],
    adapters: Mapping[int, StepAdapter],
    name: str,
    device: str,
    say: Any,
) -> None:
    tables, costs = [], []
    for step, adapter in sorted(adapters.items()):
        part = store.folder / "parts" / f"nll-{step:06d}.parquet"
        if not part.is_file():
            say(f"Scoring {len(rows)} samples under checkpoint {step} …")
            started = time.perf_counter()
            policy = load_policy(name, adapter.location, device=device)
            table = pa.Table.from_pylist(score(policy, step, rows, prompts), schema=NLL)
            cost = {"seconds": time.perf_counter() - started, "policy": identity_facts(policy.identity)}
            table = table.replace_schema_metadata({"cost": canonical_json(cost)})
            write_atomically(part, lambda path, table=table: pq.write_table(table, path))
        table = pq.read_table(part)
        costs.append(json.loads(table.schema.metadata[b"cost"]))
        tables.append(table.replace_schema_metadata(None))
    whole = pa.concat_tables(tables)
    write_atomically(store.folder / TABLE, lambda path: pq.write_table(whole, path, compression="zstd"))
    seconds = sum(cost["seconds"] for cost in costs)
    compute = {
        "rollouts": 0,
        "scored_completions": whole.num_rows,
        "scored_tokens": sum(whole["tokens"].to_pylist()),
        "wall_seconds": seconds,
        "device_seconds": seconds,
    }
    facts = {
        "policy": costs[0]["policy"],
        "versions": machine.versions(),
        "machine": machine.device(device),
        "git": machine.git_commit(find_project_root()),
        "largest_difference_to_recorded": recorded_difference(rows, tables[0].to_pylist()),
    }
    store.finish(rows, [], compute, facts, {TABLE: whole.num_rows})


def recorded_difference(rows: Sequence[Row], scores: Sequence[Row]) -> float:
    """Largest gap (nats per token) between the recorded surprisal of samples and their scores: rounding, if one policy

    wrote and scored them.
    """
    return max(abs(row["mean_logprob"] + each["nll_mean"]) for row, each in zip(rows, scores, strict=True))


def of_first_update(adaptation: Run, samples: pd.DataFrame) -> pd.Series:
    """Which of the fixed samples are the very rollouts that the run's first update was made from.

    Bool, on the index of ``samples``. A search with the run's policy and seed draws them too, whatever its folder's
    name.
    """
    names = ["task", "scaffold", "seed", "sample", "completion"]
    first = adaptation.samples.loc[adaptation.samples["step"] == 0, names]
    drawn = set(first.itertuples(index=False, name=None))
    return pd.Series([row in drawn for row in samples[names].itertuples(index=False, name=None)], samples.index, bool)


def probe_run(
    adaptation: Run,
    samples: Run,
    folder: Path | None = None,
    *,
    first: int | None = None,
    seed: int | None = None,
    checkpoints: Path | None = None,
    base_adapter: str | None = None,
    console: Console | None = None,
) -> Probe:
    """Probe a run's checkpoints with what the base policy wrote in ``samples`` (the same run, or one that shares it).

    ``folder`` defaults to one named after what is probed in the runs folder. Raises UserError where adapters are
    missing or are not the run's.
    """
    rows = fixed_samples(samples, first, seed)
    adapters = run_adapters(adaptation, None, checkpoints, base_adapter)
    given = adaptation.manifest["parameters"]
    same = all(adaptation.manifest["policy"][n] == samples.manifest["policy"][n] for n in _WEIGHTS)
    origin = {
        "run": adaptation.folder.name,
        "run_sha256": adaptation.manifest["files"]["samples.parquet"]["sha256"],
        "samples": samples.folder.name,
        "samples_sha256": samples.manifest["files"]["samples.parquet"]["sha256"],
        "first": first,
        "seed": seed,
        "written_by_step_0": same,
        "first_update_saw_them": bool(of_first_update(adaptation, pd.DataFrame(rows)).any()),
    }
    if folder is None:
        folder = runs_folder() / f"{KIND}-{fingerprint(KIND, origin | {'version': __version__})}"
    return probe(
        rows,
        prompts_of(samples),
        adapters,
        given["policy"],
        folder,
        device=given["device"],
        origin=origin,
        console=console,
    )


_WEIGHTS = ("weights_sha256", "adapter_sha256")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence, and an interrupted probe goes on when it is started again."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.training.probe", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the adaptation run whose checkpoints score")
    parser.add_argument("--samples", type=Path, help="folder of the run whose step 0 is scored (default: --run)")
    parser.add_argument("--out", type=Path, help="where the probe goes (default: in runs/)")
    parser.add_argument("--first", type=int, help="only the first so many samples of each task")
    parser.add_argument("--seed", type=int, help="only samples of this seed")
    parser.add_argument("--checkpoints", type=Path, help="folder of checkpoint-<step> (default: in the run)")
    parser.add_argument("--base-adapter", help="where the run's starting adapter lies now")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        adaptation = load_run(chosen.run)
        found = probe_run(
            adaptation,
            load_run(chosen.samples) if chosen.samples else adaptation,
            chosen.out,
            first=chosen.first,
            seed=chosen.seed,
            checkpoints=chosen.checkpoints,
            base_adapter=chosen.base_adapter,
            console=console,
        )
    except UserError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        return 130
    print(f"{found.folder}: {len(found.samples)} samples under {found.nll['step'].nunique()} checkpoints")
    return 0


if __name__ == "__main__":
    sys.exit(main())
