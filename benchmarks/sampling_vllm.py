"""Tokens per second on vLLM: our policy on its engine, and the engine alone, ``LLM.generate`` with n = K and a seed.

Run by the interpreter of an environment that has vLLM (`make vllm`); ``sampling.py --vllm-python`` does that and shows
the numbers beside its own. Equal work as there: every completion has its full length. The engine alone gives one raw
log-probability per token; ours gives the tempered one as well. Kept prefixes are dropped before each timed run, so that
the prompt is computed in it. OpenMP is Intel's where the environment has it, as vLLM's documentation asks.

    .venv-vllm/bin/python benchmarks/sampling_vllm.py [--prompt 400] [--k 64] [--new 32] [--compile] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampling import TEMPERATURE, fastest, prompt_of

from vegtts_core.policy.load import load_vllm
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.policy.vllm.parameters import VllmParameters


def prepare(threads: int) -> None:
    """As many cores as the other side has, and Intel's OpenMP; the engine's processes inherit both."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    library = Path(sys.prefix, "lib", "libiomp5.so")
    if library.is_file():
        os.environ["LD_PRELOAD"] = f"{library}:{os.environ.get('LD_PRELOAD', '')}".rstrip(":")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=400, help="prompt tokens")
    parser.add_argument("--k", type=int, default=64, help="completions")
    parser.add_argument("--new", type=int, default=32, help="tokens per completion")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--model", default="embedded", help="any name that load_policy takes")
    parser.add_argument("--compile", action="store_true", help="let vLLM compile the model first")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    prepare(options.threads)
    started = time.perf_counter()
    engine = VllmParameters(max_num_seqs=options.k, max_model_len=2048, enforce_eager=not options.compile)
    policy = load_vllm(options.model, None, "float32", "auto", engine, adapters=False)
    start_seconds = time.perf_counter() - started
    try:
        policy.eos_ids = frozenset()
        prompt = prompt_of(policy, options.prompt)
        llm: Any = policy._llm

        def ours(k: int = options.k) -> None:
            (completions,) = policy.sample([prompt], k, SamplingParameters(TEMPERATURE, options.new), seed=0)
            assert len(completions) == k and all(len(each.logprobs) == options.new for each in completions)

        def alone(k: int = options.k) -> None:
            from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

            asked = SamplingParams(
                n=k,
                temperature=TEMPERATURE,
                max_tokens=options.new,
                ignore_eos=True,
                logprobs=0,
                seed=0,
                detokenize=False,
            )
            ids = prompt_token_ids(policy.tokenizer, prompt)
            (output,) = llm.generate({"prompt_token_ids": ids}, asked, use_tqdm=False)
            assert len(output.outputs) == k and all(len(each.logprobs) == options.new for each in output.outputs)

        def score() -> None:
            policy.score([prompt], [written], TEMPERATURE)

        def fresh(run: Callable[[], None]) -> Callable[[], None]:
            def start() -> None:
                llm.reset_prefix_cache()
                run()

            return start

        ours(2)
        alone(2)
        (group,) = policy.sample([prompt], options.k, SamplingParameters(1.0, options.new), seed=1)
        written = [each.token_ids for each in group]
        seconds = {
            "vllm_policy_seconds": fastest(fresh(ours), options.repeats),
            "vllm_seconds": fastest(fresh(alone), options.repeats),
            "vllm_policy_score_seconds": fastest(fresh(score), options.repeats),
        }
    finally:
        policy.close()
    tokens = options.k * options.new
    rates = {name.replace("seconds", "tokens_per_second"): tokens / value for name, value in seconds.items()}
    version = policy.identity.versions["vllm"]
    result = {
        "benchmark": "sampling_vllm",
        "ratio": seconds["vllm_seconds"] / seconds["vllm_policy_seconds"],
        **seconds,
        **rates,
        "vllm_start_seconds": start_seconds,
        "vllm": f"vllm {version} LLM.generate(n=K), {'compiled' if options.compile else 'eager'}",
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36}{value:10.2f}" if isinstance(value, float) else f"{name:36}{value}")


if __name__ == "__main__":
    main()
