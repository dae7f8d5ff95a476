"""The samples table: one row per rollout. Everything downstream (selection, metrics, figures) is a function of it.

This module imports nothing of ours, so that pure functions can depend on it alone.
"""

from __future__ import annotations

import pyarrow as pa

FLOATS = pa.list_(pa.float64())

#: Columns that identify a rollout. ``sample`` counts 0..k-1 within (task, seed, step).
KEY = ("task", "seed", "step", "sample")

#: Columns that depend on the clock or on secret inputs: they differ between two runs of the same parameters.
MEASURED = (
    "max_error",
    "published_speedup",
    "published_reference_seconds",
    "published_candidate_seconds",
    "sound_speedup",
    "sound_speedup_low",
    "sound_speedup_high",
    "sound_between_evaluations",
    "sound_decision",
    "sound_reference_seconds",
    "sound_candidate_seconds",
    "retimed_correct",
    "retimed_published_speedup",
    "retimed_sound_speedup",
    "retimed_sound_speedup_low",
    "retimed_sound_decision",
    "reward",
    "evaluation_seconds",
)

SAMPLES = pa.schema(
    [
        pa.field("task", pa.string(), metadata={"doc": "task key, e.g. level1/4"}),
        pa.field("task_id", pa.int64(), metadata={"doc": "KernelBench problem number"}),
        pa.field("scaffold", pa.string(), metadata={"doc": "forward | template | kernel"}),
        pa.field("seed", pa.int64(), metadata={"doc": "seed of the run"}),
        pa.field("step", pa.int64(), metadata={"doc": "adaptation step; 0 for Best-of-N"}),
        pa.field("sample", pa.int64(), metadata={"doc": "0..k-1 within (task, seed, step)"}),
        pa.field("prompt_id", pa.string(), metadata={"doc": "sha256 of the rendered messages, first 16 digits"}),
        pa.field("completion", pa.string(), metadata={"doc": "text that the policy wrote"}),
        pa.field("stop_reason", pa.string(), metadata={"doc": "eos | stop_string | length"}),
        pa.field("tokens", pa.int64(), metadata={"doc": "completion tokens"}),
        pa.field("token_ids", pa.list_(pa.int32()), metadata={"doc": "completion token ids; null if unknown"}),
        pa.field("logprobs", FLOATS, metadata={"doc": "log p of each token, untempered model, nats"}),
        pa.field("sampling_logprobs", FLOATS, metadata={"doc": "the same as sampled (tempered); NaN if unknown"}),
        pa.field("mean_logprob", pa.float64(), metadata={"doc": "mean of logprobs, nats per token"}),
        pa.field("sampling_mean_logprob", pa.float64(), metadata={"doc": "mean of sampling_logprobs, nats per token"}),
        pa.field("body", pa.string(), metadata={"doc": "the candidate's normalised body; null if refused"}),
        pa.field("fingerprint", pa.string(), metadata={"doc": "equal for equal candidates of a task; null if refused"}),
        pa.field("stage", pa.string(), metadata={"doc": "stage at which evaluation ended"}),
        pa.field("error", pa.string(), metadata={"doc": "error kind; null if every stage passed"}),
        pa.field("reason", pa.string(), metadata={"doc": "one sentence; empty if every stage passed"}),
        pa.field("published_correct", pa.bool_(), metadata={"doc": "correct under the published protocol"}),
        pa.field("published_speedup", pa.float64(), metadata={"doc": "point estimate; null if not correct"}),
        pa.field("published_reference_seconds", FLOATS, metadata={"doc": "timed calls of the reference"}),
        pa.field("published_candidate_seconds", FLOATS, metadata={"doc": "timed calls of the candidate"}),
        pa.field("sound_correct", pa.bool_(), metadata={"doc": "correct under the sound protocol"}),
        pa.field("sound_speedup", pa.float64(), metadata={"doc": "from paired ratios; null if not correct"}),
        pa.field("sound_speedup_low", pa.float64(), metadata={"doc": "lower bound of the 95% interval"}),
        pa.field("sound_speedup_high", pa.float64(), metadata={"doc": "upper bound of the 95% interval"}),
        pa.field(
            "sound_between_evaluations",
            pa.float64(),
            metadata={
                "doc": "half-width (log) of the interval's part for what differs between evaluations; null: none"
            },
        ),
        pa.field("sound_decision", pa.string(), metadata={"doc": "faster | slower | same | undecided"}),
        pa.field("sound_reference_seconds", FLOATS, metadata={"doc": "reference calls, paired by position"}),
        pa.field("sound_candidate_seconds", FLOATS, metadata={"doc": "candidate calls, paired by position"}),
        pa.field("retimed_correct", pa.bool_(), metadata={"doc": "correct in a second evaluation; null if none"}),
        pa.field("retimed_published_speedup", pa.float64(), metadata={"doc": "of that evaluation, on fresh data"}),
        pa.field("retimed_sound_speedup", pa.float64(), metadata={"doc": "of that evaluation, on fresh data"}),
        pa.field("retimed_sound_speedup_low", pa.float64(), metadata={"doc": "lower bound of its 95% interval"}),
        pa.field("retimed_sound_decision", pa.string(), metadata={"doc": "faster | slower | same | undecided"}),
        pa.field(
            "max_error",
            pa.float64(),
            metadata={"doc": "largest scaled error against float64 / budget"},
        ),
        pa.field("reward", pa.float64(), metadata={"doc": "speedup under the run's protocol if correct, else 0"}),
        pa.field("evaluation_seconds", pa.float64(), metadata={"doc": "wall time of this candidate's evaluation"}),
    ]
)
