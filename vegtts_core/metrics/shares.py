"""What a samples table says under a protocol: fast_p, correctness, mean speedups (section 4.3).

It knows nothing of policies, evaluators or files, nor of what K samples are worth (``scaling``).

Two numbers share the name fast_1 in the paper and are never mixed here. ``sample_fast_p`` is a share of **samples**
(what one more sample is worth); ``task_fast_p`` a share of **groups**, a group being the samples of one (task, seed,
step), with at least one fast sample (what K samples and an oracle are worth). The first is pass@1, the second pass@K.
"""

from __future__ import annotations

from enum import StrEnum
from typing import overload

import numpy as np
import pandas as pd

from vegtts_core.runs.schema import SAMPLES

#: One group: the samples of a task under one seed at one adaptation step (0 for Best-of-N).
GROUP = ["task", "seed", "step"]

#: A speedup must clear p by this share under the sound protocol: below it nothing is called faster.
MINIMUM_EFFECT = 0.02

_KEPT = [
    "task",
    "task_id",
    "seed",
    "step",
    "sample",
    "tokens",
    "mean_logprob",
    "sampling_mean_logprob",
    "fingerprint",
]


class By(StrEnum):
    """What a share is broken down by."""

    TASK = "task"
    SEED = "seed"


def under(samples: pd.DataFrame, protocol: str, minimum_effect: float = MINIMUM_EFFECT) -> pd.DataFrame:
    """The samples as one protocol sees them, one row per row of ``samples``, index 0..n-1.

    ``samples`` has the columns of ``vegtts_core.runs.schema.SAMPLES``; ``protocol`` is ``published`` or ``sound``.
    Columns: task, task_id, seed, step, sample, tokens, mean_logprob, sampling_mean_logprob (nats per token),
    fingerprint, ``protocol``, ``correct`` (bool; a refused candidate is not correct), ``speedup``, ``speedup_low``,
    ``speedup_high`` (reference time / candidate time; NaN if unknown or not correct), ``decision`` (None if not
    correct), ``surprisal`` (minus mean_logprob) and ``fast_limit``: the sample is fast_p exactly if p < fast_limit.

    ``fast_limit`` is the speedup under ``published`` and ``speedup_low / (1 + minimum_effect)`` under ``sound``, so
    that at p = 1 sound and fast is the decision ``faster``; NaN, and so never fast, if not correct.
    ``fresh_speedup`` and ``fresh_limit`` are the same two of the candidate's second evaluation, on fresh data, for
    whoever selects by the first; they are the first one's where there was no second, and NaN if it was not correct.
    Raises ValueError for another protocol or a missing column.
    """
    if f"{protocol}_correct" not in SAMPLES.names:
        raise ValueError(f"There is no protocol {str(protocol)!r}: use 'published' or 'sound'.")
    sound = f"{protocol}_speedup_low" in SAMPLES.names
    needed = [*_KEPT, f"{protocol}_correct", f"{protocol}_speedup"]
    needed += ["sound_speedup_low", "sound_speedup_high", "sound_decision"] if sound else []
    missing = [name for name in needed if name not in samples.columns]
    if missing:
        raise ValueError(f"The samples table lacks the columns {', '.join(missing)}: read it from a run store.")
    view = samples[_KEPT].reset_index(drop=True)
    view["protocol"] = str(protocol)
    correct = np.array([value is True or value is np.True_ for value in samples[f"{protocol}_correct"]], dtype=bool)
    view["correct"] = correct

    def column(name: str) -> pd.Series:
        return samples[name].reset_index(drop=True).astype(float).where(correct)

    view["speedup"] = column(f"{protocol}_speedup")
    if sound:
        view["speedup_low"], view["speedup_high"] = column("sound_speedup_low"), column("sound_speedup_high")
        decided = samples["sound_decision"].reset_index(drop=True).astype(object)
        view["decision"] = decided.where(correct & decided.notna().to_numpy(), None)
        view["fast_limit"] = view["speedup_low"] / (1 + minimum_effect)
    else:
        view["speedup_low"] = view["speedup_high"] = np.nan
        faster = np.where(view["speedup"] > 1, "faster", "slower")
        view["decision"] = pd.Series(faster, dtype=object).where(view["speedup"].notna(), None)
        view["fast_limit"] = view["speedup"]
    view["surprisal"] = -view["mean_logprob"]
    _add_fresh(view, samples, protocol, minimum_effect if sound else None)
    return view


def _add_fresh(view: pd.DataFrame, samples: pd.DataFrame, protocol: str, minimum_effect: float | None) -> None:
    view["fresh_speedup"], view["fresh_limit"] = view["speedup"], view["fast_limit"]
    if "retimed_correct" not in samples.columns:
        return
    again = samples["retimed_correct"].reset_index(drop=True)
    measured, right = again.notna(), again.eq(True).fillna(False).astype(bool)
    limit = f"retimed_{protocol}_speedup" + ("" if minimum_effect is None else "_low")
    for name, source, scale in (
        ("fresh_speedup", f"retimed_{protocol}_speedup", 1.0),
        ("fresh_limit", limit, 1 + (minimum_effect or 0.0)),
    ):
        fresh = samples[source].reset_index(drop=True).astype(float).where(right) / scale
        view[name] = view[name].where(~measured, fresh)


@overload
def sample_fast_p(view: pd.DataFrame, p: float = ..., by: None = ...) -> float: ...
@overload
def sample_fast_p(view: pd.DataFrame, p: float, by: By) -> pd.Series: ...
def sample_fast_p(view: pd.DataFrame, p: float = 1.0, by: By | None = None) -> float | pd.Series:
    """Share of all **samples** that are correct and faster than p: the mean of pass@1. NaN for no samples.

    With ``by``, a series indexed by task or seed.
    """
    return _share(view.assign(hit=view["fast_limit"] > p), by)


@overload
def task_fast_p(view: pd.DataFrame, p: float = ..., by: None = ...) -> float: ...
@overload
def task_fast_p(view: pd.DataFrame, p: float, by: By) -> pd.Series: ...
def task_fast_p(view: pd.DataFrame, p: float = 1.0, by: By | None = None) -> float | pd.Series:
    """Share of **groups** (task, seed, step) with at least one sample that is correct and faster than p.

    NaN for no groups. With ``by``, a series indexed by task (share of its seeds) or seed (share of its tasks).
    """
    hits = view.assign(hit=view["fast_limit"] > p).groupby(GROUP, as_index=False)["hit"].any()
    return _share(hits, by)


@overload
def correctness(view: pd.DataFrame, by: None = ...) -> float: ...
@overload
def correctness(view: pd.DataFrame, by: By) -> pd.Series: ...
def correctness(view: pd.DataFrame, by: By | None = None) -> float | pd.Series:
    """Share of samples that pass the correctness stage; refused and crashed ones count as wrong."""
    return _share(view.assign(hit=view["correct"]), by)


def _share(hits: pd.DataFrame, by: By | None) -> float | pd.Series:
    if by is None:
        return float(hits["hit"].mean()) if len(hits) else float("nan")
    return hits.groupby(by.value)["hit"].mean().rename("share")


def summary(view: pd.DataFrame, p: float = 1.0, by: By | None = None) -> pd.DataFrame:
    """Counts and shares, one row per task or seed, or one row ``all``.

    Columns: samples, groups, correct (samples), distinct (different accepted candidates per group, summed),
    correctness, sample_fast_p, task_fast_p, mean_speedup (arithmetic over correct samples, as the paper's) and
    geometric_speedup (the one to trust: 4x and 0.25x average to 1x, not to 2.1x); NaN where nothing is correct.
    """
    parts = [("all", view)] if by is None else list(view.groupby(by.value))
    table = {}
    for name, part in parts:
        logs = np.log(part["speedup"])
        table[name] = {
            "samples": len(part),
            "groups": len(part.groupby(GROUP)),
            "correct": int(part["correct"].sum()),
            "distinct": int(part.groupby(GROUP)["fingerprint"].nunique().sum()),
            "correctness": correctness(part),
            "sample_fast_p": sample_fast_p(part, p),
            "task_fast_p": task_fast_p(part, p),
            "mean_speedup": float(part["speedup"].mean()),
            "geometric_speedup": float(np.exp(logs.mean())),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(by.value if by else "all")
