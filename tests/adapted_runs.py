"""Runs of an adaptation for tests: made samples with the manifest and step records that chapters 3.4 and 5.3 read."""

from pathlib import Path

import pandas as pd
from adaptation_tables import adapted

from vegtts_core.runs import Run
from vegtts_core.training.parameters import AdaptationParameters

TOKENS = 10


def made_run(hits, k=4, seed=42, wrong=0, loss=None, **changes):
    """A run with ``hits[step][task]`` fast rollouts (``adaptation_tables.adapted``); step s takes 17 seconds."""
    samples = adapted(hits, k, (seed,), wrong).assign(scaffold="template", completion="y = x", tokens=TOKENS)
    parameters = {"seed": seed, "k": k, "steps": len(hits) - 1, "scaffolds": ["template"], "temperature": 1.0}
    given = AdaptationParameters.model_validate(parameters | changes).model_dump(mode="json")
    steps = []
    for step in range(len(hits)):
        last = step == len(hits) - 1
        count = int((samples["step"] == step).sum())
        record = {
            "step": step,
            "rollouts": count,
            "skipped": last,
            "silent_groups": 0,
            "grad_norm": None if last else 2.0,
        }
        record |= {"loss": None if last else loss, "entropy": None if last else 0.3, "kl": None}
        record |= {"student_tokens": 30 * count, "teacher_tokens": 0, "sampling_seconds": 10.0}
        record |= {"evaluation_seconds": 5.0, "preparing_seconds": 0.5, "update_seconds": 0.0 if last else 1.5}
        seconds = 15.5 if last else 17.0
        steps.append(record | {"wall_seconds": seconds, "device_seconds": seconds})
    totals = ("sampling_seconds", "evaluation_seconds", "update_seconds", "wall_seconds")
    manifest = {
        "parameters": given,
        "policy": {"name": "embedded", "weights_sha256": "w", "adapter_sha256": "a"},
        "machine": {"cores": 2, "cpu": "a processor", "device": "cpu"},
    }
    compute = {name: sum(record[name] for record in steps) for name in totals}
    return Run(Path(), manifest, samples, compute, pd.DataFrame(), pd.DataFrame(steps))


def family(hits_by_seed, **changes):
    """Runs that differ in their seeds, from 42 on, by name."""
    return {f"run_{42 + i}": made_run(hits, seed=42 + i, **changes) for i, hits in enumerate(hits_by_seed)}
