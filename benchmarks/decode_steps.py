"""Milliseconds of one decode step of the transformers policy, replayed as a CUDA graph and launched kernel by kernel.

For each number of rows: the seconds of a call of NEW tokens per row less those of a call of 2, over the steps between.
The first call with graphs records them; a later one replays what was recorded. ``replay`` is the graph alone, replayed
back to back: what the device needs, without this process.

    python benchmarks/decode_steps.py [--model NAME] [--dtype float32] [--rows 32,256] [--prompt 400] [--new 64]
        [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import reporting
import sampling
import torch

from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.scaffolds.types import Prompt

TEMPERATURE = 1.0


def seconds(policy: TransformersPolicy, prompt: Prompt, rows: int, new: int) -> float:
    """Of one call."""
    started = time.perf_counter()
    policy.sample([prompt], rows, SamplingParameters(TEMPERATURE, new), seed=0)
    return time.perf_counter() - started


def step_ms(policy: TransformersPolicy, prompt: Prompt, rows: int, new: int) -> float:
    """Of a step, from two calls."""
    return 1e3 * (seconds(policy, prompt, rows, new) - seconds(policy, prompt, rows, 2)) / (new - 2)


def replay_ms(policy: TransformersPolicy, times: int = 20) -> float | None:
    """Of the newest graph alone; None if none was recorded."""
    decoding: Any = getattr(policy._engine, "static", None)
    replays = [] if decoding is None else [step.replay for step in decoding._steps.values() if step.replay]
    if not replays:
        return None
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        replays[-1]()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="any name that load_policy takes")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", default="32,256")
    parser.add_argument("--prompt", type=int, default=400)
    parser.add_argument("--new", type=int, default=64)
    reporting.add_arguments(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no GPU here: CUDA graphs need one.")
    policy = load_policy(options.model, dtype=options.dtype, device="cuda")
    assert isinstance(policy, TransformersPolicy)
    plain = TransformersPolicy(policy.base, policy.tokenizer, policy.identity, cuda_graphs=False)
    policy.eos_ids = plain.eos_ids = frozenset()
    prompt = sampling.prompt_of(policy, options.prompt)
    results = []
    for rows in map(int, options.rows.split(",")):
        seconds(plain, prompt, rows, 2)
        eager = step_ms(plain, prompt, rows, options.new)
        first = step_ms(policy, prompt, rows, options.new)
        later = step_ms(policy, prompt, rows, options.new)
        kept: Any = getattr(policy._engine, "static", None)
        results.append(
            {
                "rows": rows,
                "plain_ms": eager,
                "recording_ms": first,
                "graph_ms": later,
                "replay_ms": replay_ms(policy),
                "kept_gib": 0.0 if kept is None else kept.kept_bytes / 2**30,
                "ratio": eager / later,
            }
        )
    result = {"benchmark": "decode_steps", "ratio": results[0]["ratio"], "rows": results, "model": options.model}
    result |= {"dtype": options.dtype, "prompt_tokens": options.prompt, "new_tokens": options.new}
    if not reporting.hand_over(result, options, "cuda"):
        return
    print(f"{options.model}, {options.dtype}, prompt {options.prompt}, {options.new} tokens; ms per step")
    print(f"{'rows':>6}{'plain':>9}{'recording':>11}{'graph':>9}{'replay':>9}{'ratio':>8}{'kept GiB':>10}")
    for row in results:
        alone = "none" if row["replay_ms"] is None else f"{row['replay_ms']:.2f}"
        print(
            f"{row['rows']:6}{row['plain_ms']:9.2f}{row['recording_ms']:11.2f}{row['graph_ms']:9.2f}{alone:>9}"
            f"{row['ratio']:8.2f}{row['kept_gib']:10.2f}"
        )


if __name__ == "__main__":
    main()
