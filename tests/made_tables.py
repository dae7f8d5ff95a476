"""Samples tables for tests: real columns, made-up values, small enough to enumerate."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from vegtts_core import metrics
from vegtts_core.runs.schema import SAMPLES


def sample(**changes):
    """One row of SAMPLES: a correct sample whose two protocols agree, with ``changes``; ``speedup`` sets them all."""
    row = dict.fromkeys(SAMPLES.names)
    row |= {"task": "level1/4", "task_id": 4, "seed": 42, "step": 0, "sample": 0, "tokens": 10}
    row |= {"mean_logprob": -0.5, "sampling_mean_logprob": -0.1, "fingerprint": "f0"}
    speedup = changes.pop("speedup", 1.5)
    correct = changes.get("sound_correct", changes.pop("correct", True))
    row |= {"published_correct": correct, "sound_correct": correct}
    if correct:
        low = speedup * 0.99
        decision = "faster" if low > 1.02 else "slower" if speedup * 1.01 < 1 / 1.02 else "same"
        row |= {"published_speedup": speedup, "sound_speedup": speedup, "sound_speedup_low": low}
        row |= {"sound_speedup_high": speedup * 1.01, "sound_decision": decision}
    return row | changes


def table(rows):
    """Rows as a samples table with the schema's columns."""
    return pd.DataFrame(rows, columns=SAMPLES.names)


def grid(hits, k=8, seeds=(42, 43)):
    """A table with ``hits[task]`` fast samples of k for each task and seed; surprisal falls along the samples."""
    rows = []
    for number, count in enumerate(hits):
        for seed in seeds:
            for i in range(k):
                speedup = 2.0 if i < count else 0.5
                rows.append(
                    sample(
                        task=f"level1/{number}",
                        task_id=number,
                        seed=seed,
                        sample=i,
                        speedup=speedup,
                        mean_logprob=-1.0 + i / k,
                        fingerprint=f"f{i}",
                    )
                )
    return table(rows)


@st.composite
def groups(draw, minimum=1, maximum=7, protocol="published"):
    """One group's view: few levels of surprisal and speedup, so that ties are common; copies agree."""
    kinds = draw(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([0.2, 0.4, 0.8]), st.sampled_from([0.5, 1.0, 1.5, 3.0])),
            min_size=1,
            max_size=4,
        )
    )
    picks = draw(st.lists(st.integers(0, len(kinds) - 1), min_size=minimum, max_size=maximum))
    rows = [
        sample(sample=i, correct=kinds[j][0], mean_logprob=-kinds[j][1], speedup=kinds[j][2], fingerprint=f"f{j}")
        for i, j in enumerate(picks)
    ]
    return metrics.under(table(rows), protocol)


def random_table(seed=0, tasks=5, seeds=(42, 43), k=16, kinds=6):
    """A table with copies and failures in which nothing is related to anything."""
    rng = np.random.default_rng(seed)
    rows = []
    for task in range(tasks):
        for run in seeds:
            pool = [
                (rng.exponential(0.3), int(rng.integers(5, 20)), float(np.exp(rng.normal(0, 0.5))))
                for _ in range(kinds)
            ]
            for i in range(k):
                j = int(rng.integers(kinds))
                rows.append(
                    sample(
                        task=f"level1/{task}",
                        task_id=task,
                        seed=run,
                        sample=i,
                        tokens=pool[j][1],
                        correct=bool(rng.random() < 0.8),
                        speedup=pool[j][2],
                        mean_logprob=-pool[j][0],
                        sampling_mean_logprob=-pool[j][0] / 4,
                        fingerprint=f"f{run}{j}",
                    )
                )
    return table(rows)
