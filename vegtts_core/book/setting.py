"""The tables and facts of chapter 4: the paper's set-up beside that of a run. It words and arranges.

It reads a run's manifest and compute file and the published tables.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.headroom import headroom_h100
from vegtts_core.book.prose import number
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.metrics import GROUP
from vegtts_core.runs import Run
from vegtts_core.selection import STRATEGIES
from vegtts_core.statistics import Interval, mean_interval


def run_facts(run: Run) -> dict[str, str]:
    """Facts about a run and the paper's numbers that chapter 4 mentions in its sentences, by name."""
    parameters, machine, compute = run.manifest["parameters"], run.manifest["machine"], run.compute
    seconds = compute["sampling_seconds"] + compute["evaluation_seconds"]
    samples = run.samples
    tokens = published.table("5.2-quartiles")["mean_tokens"]
    best = published.table("C.1").loc["best-of-n"]
    return {
        "policy": _policy(run),
        "rollouts": f"{len(samples):,}",
        "tasks": str(samples["task"].nunique()),
        "seeds": ", ".join(str(seed) for seed in sorted(samples["seed"].unique())),
        "k": str(int(samples["sample"].max()) + 1),
        "temperature": number(parameters["temperature"]),
        "machine": _machine(machine),
        "evaluation-share": number(compute["evaluation_seconds"] / seconds, ".0%"),
        "per-sample": number(published.value("headline/subset-1-best-of-n-per-sample/value"), ".1%"),
        "per-task": number(published.value("headline/best-of-n-k64/value"), ".0%"),
        "ttt": number(published.value("headline/ttt-best-3-seeds/value"), ".1%"),
        "triangular": number(_h100_headroom(14), "{:.1f}×"),
        "curve-start": number(published.value("5.1/1/pass_at_k"), ".1%"),
        "claim-4": number(published.value("D.2/4/speedup"), "{:.1f}×"),
        "claim-5": number(published.value("D.2/5/speedup"), "{:.1f}×"),
        "published-tokens": f"{tokens.min():.0f} to {tokens.max():.0f}",
        "published-tokens-per-rollout": number(best["student_tokens"] / best["rollouts"], ",.0f"),
    }


def fast_rates(view: pd.DataFrame) -> tuple[Interval, Interval]:
    """fast_1 per sample and per task of a protocol's view (``metrics.under``), each with its bootstrap interval."""
    groups = view.assign(hit=view["fast_limit"] > 1).groupby(GROUP)["hit"].agg(["mean", "any"]).reset_index()
    return mean_interval(groups["mean"], groups["task"]), mean_interval(groups["any"], groups["task"])


def _h100_headroom(task_id: int) -> float:
    return float(headroom_h100([task_id])["headroom"].iloc[0])


def _policy(run: Run) -> str:
    name = str(run.manifest["policy"]["name"])
    model = "SmolLM2-135M-Instruct" if name == "embedded" else name.rstrip("/").rsplit("/", 1)[-1]
    return f"{model} {'with an adapter' if run.manifest['policy'].get('adapter_sha256') else 'as it comes'}"


def _machine(machine: dict[str, Any]) -> str:
    processor = f"{machine['cores']} cores of {machine['cpu']}"
    return f"one {machine['gpu']} beside {processor}" if "gpu" in machine else processor


def equal_budget(paper: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Section 4.1's table with a column ``here``: what the run did for each parameter."""
    parameters, samples = run.manifest["parameters"], run.samples
    protocols = " and ".join(sorted(parameters["evaluator"]["protocols"]))
    here = {
        "total rollouts": f"{len(samples):,}, {samples['seed'].nunique()} seeds together",
        "temperature": number(parameters["temperature"]),
        "max_tokens": str(parameters["max_new_tokens"]),
        "eval mode": protocols,
        "checkpoint": f"{_policy(run)}, untrained" if not parameters["adapter"] else str(parameters["adapter"]),
        "system prompt": f"{len(parameters['examples'])} worked examples from training tasks",
    }
    table = paper.reset_index()
    return table.assign(here=[here.get(name) for name in table["parameter"]])


def strategies(paper: pd.DataFrame) -> pd.DataFrame:
    """Section 4.5's table in table 5.3's order, with ``evaluations``: how many samples have to be timed."""
    needed = {s.name: "all correct ones" if s.evaluations is None else str(s.evaluations) for s in STRATEGIES}
    table = paper.loc[list(needed)].reset_index()
    return table.assign(evaluations=[needed[name] for name in table["strategy"]])


def compute_published() -> pd.DataFrame:
    """Table C.1's row for Best-of-N."""
    return published.table("C.1").loc[["best-of-n"]].reset_index()


def compute_here(run: Run) -> pd.DataFrame:
    """The same of a run, with ``distinct`` candidates evaluated and wall time ``seconds``; the whole run, all seeds."""
    compute = run.compute
    row = {name: compute[name] for name in ("rollouts", "student_tokens", "teacher_tokens")}
    row |= {"distinct": compute["distinct_candidates"], "seconds": compute["wall_seconds"]}
    return pd.DataFrame([{"method": "best-of-n", **row}])


def protocols(run: Run) -> pd.DataFrame:
    """What each protocol does, with the settings of the run: columns rule, published, sound."""
    settings = EvaluatorSettings.model_validate(run.manifest["parameters"]["evaluator"])
    paper, ours = settings.published, settings.sound
    rows = [
        (
            "inputs",
            f"the benchmark's distribution under its known seed, {_times(paper.correctness_trials, 'draw')}",
            f"secret seeds: {_times(ours.benchmark_draws, 'draw')} from it, {ours.wide_draws} from the whole contract",
        ),
        (
            "agreement",
            f"absolute and relative tolerance {paper.tolerance:g} against the reference",
            f"{ours.error_factor:g} times the reference's own error against float64",
        ),
        (
            "timing",
            f"{_times(paper.timing_trials, 'trial')} of each, one after the other",
            f"{ours.min_pairs} to {ours.max_pairs} interleaved pairs, outputs of timed calls checked",
        ),
        ("estimate", "ratio of mean times", "geometric mean of paired ratios with its 95% interval"),
        ("faster if", "speedup > 1", f"lower bound > {1 + ours.minimum_effect:g}"),
        ("refuses also", "nothing", "writing to inputs, returning them, ignoring one, answers that do not repeat"),
    ]
    return pd.DataFrame(rows, columns=["rule", "published", "sound"])


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
