"""Tokens per second of the transformers policy against ``generate(num_return_sequences=K)`` on the same prompt.

Both sides run the same model (the embedded one by default) in float32 in one process run, write exactly the same number
of tokens per completion (end-of-sequence and stop strings are switched off on both), and give the log-probabilities of
what they wrote: the peer by ``output_logits``, as transformers documents it. A second peer, for the reader who knows
the trick, computes the prompt once and hands ``generate`` a cache repeated K times; ``ratio`` is to the first.
On a GPU (``--device cuda``) our policy is measured once more without CUDA graphs (``ours_plain_*``).
Our side goes first, so that the peak memory reported is ours alone. Each side is warmed up once, then timed
``--repeats`` times; the fastest counts, as others may use the machine.
With ``--vllm-python``, the interpreter of an environment that has vLLM (`make vllm`), the engine is a further peer, and
our policy on that engine is measured beside it (``sampling_vllm.py``): same machine, same run, same work.

    python benchmarks/sampling.py [--prompt 400] [--k 64] [--new 32] [--threads 2] [--repeats 1] [--model NAME]
        [--device cuda] [--vllm-python .venv-vllm/bin/python] [--vllm-compile] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.types import Policy, SamplingParameters
from vegtts_core.scaffolds.types import Message, Prompt, Role

TEMPERATURE = 0.25


def prompt_of(policy: Policy, tokens: int) -> Prompt:
    """A prompt that renders to exactly ``tokens`` tokens."""

    def build(words: int) -> Prompt:
        return Prompt("benchmark", (Message(Role.USER, "Write a kernel." + " kernel" * words),))

    fixed = policy.prompt_tokens([build(0)])[0]
    if tokens < fixed:
        sys.exit(f"--prompt {tokens} is shorter than the chat template alone: use at least {fixed}.")
    prompt = build(tokens - fixed)
    assert policy.prompt_tokens([prompt]) == [tokens]
    return prompt


def fastest(run: Callable[[], None], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def on_vllm(options: argparse.Namespace) -> dict[str, Any]:
    """What ``sampling_vllm.py`` measures under the other interpreter, for the same options."""
    names = ("prompt", "k", "new", "threads", "repeats", "model")
    command = [options.vllm_python, str(Path(__file__).with_name("sampling_vllm.py")), "--json"]
    command += [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    command += ["--compile"] if options.vllm_compile else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed; what it said stands above.")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=400, help="prompt tokens")
    parser.add_argument("--k", type=int, default=64, help="completions")
    parser.add_argument("--new", type=int, default=32, help="tokens per completion")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--model", default="embedded", help="any name that load_policy takes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--vllm-python", metavar="PATH", help="interpreter of an environment that has vLLM")
    parser.add_argument("--vllm-compile", action="store_true", help="let vLLM compile the model first")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    policy = load_policy(options.model, device=options.device)
    assert isinstance(policy, TransformersPolicy)
    policy.eos_ids = frozenset()  # equal work: every completion has its full length
    prompt = prompt_of(policy, options.prompt)
    sampling = SamplingParameters(TEMPERATURE, options.new)

    def ours(k: int = options.k, by: Policy = policy) -> None:
        (completions,) = by.sample([prompt], k, sampling, seed=0)
        assert len(completions) == k and all(len(each.logprobs) == options.new for each in completions)

    ours(2)
    our_seconds = fastest(ours, options.repeats)
    our_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
    plain_seconds = None
    if options.device == "cuda":
        plain = TransformersPolicy(policy.base, policy.tokenizer, policy.identity, cuda_graphs=False)
        plain.eos_ids = frozenset()
        ours(2, plain)
        plain_seconds = fastest(lambda: ours(by=plain), options.repeats)

    model: Any = policy.base
    model.set_attn_implementation("sdpa")
    inputs: Any = policy.tokenizer.apply_chat_template(
        [{"role": m.role.value, "content": m.content} for m in prompt.messages],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    ids: Any = inputs.to(options.device)

    def peer(k: int = options.k, inputs: Any = ids, **extra: Any) -> None:
        output = model.generate(
            **inputs,
            **extra,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
            num_return_sequences=k // len(inputs["input_ids"]),
            max_new_tokens=options.new,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        written = output.sequences[:, options.prompt :]
        assert written.shape == (k, options.new)
        for step, logits in enumerate(output.logits):
            for temperature in (1.0, TEMPERATURE):
                (logits.float() / temperature).log_softmax(-1).gather(-1, written[:, step, None])
        if options.device == "cuda":
            torch.cuda.synchronize()

    def peer_with_cache(k: int = options.k) -> None:
        cache = model(ids["input_ids"][:, :-1], use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(k)
        peer(k, {name: tensor.repeat(k, 1) for name, tensor in ids.items()}, past_key_values=cache)

    with torch.no_grad():
        peer(2)
        peer_seconds = fastest(peer, options.repeats)
        cached_seconds = fastest(peer_with_cache, options.repeats)

    tokens = options.k * options.new
    result = {
        "benchmark": "sampling",
        "ratio": peer_seconds / our_seconds,
        "ours_tokens_per_second": tokens / our_seconds,
        "peer_tokens_per_second": tokens / peer_seconds,
        "peer_repeated_cache_tokens_per_second": tokens / cached_seconds,
        "ours_seconds": our_seconds,
        "peer_seconds": peer_seconds,
        "ours_peak_rss_gib": our_rss,
        "peer": f"transformers {transformers.__version__} generate(num_return_sequences)",
        "model": options.model,
        "prompt_tokens": options.prompt,
        "k": options.k,
        "new_tokens": options.new,
        "threads": options.threads,
        "device": options.device,
        "repeats": options.repeats,
    }
    if plain_seconds is not None:
        result |= {"ours_plain_seconds": plain_seconds, "ours_plain_tokens_per_second": tokens / plain_seconds}
    if options.vllm_python:
        engine = on_vllm(options)
        del engine["benchmark"]
        engine["vllm_policy_ratio_to_vllm"] = engine.pop("ratio")
        result |= engine | {"ratio_to_vllm": engine["vllm_seconds"] / our_seconds}
    if options.json:
        print(json.dumps(result))
        return
    what = f"prompt {options.prompt}, K = {options.k}, {options.new} new tokens"
    print(f"{what}, {options.threads} threads, float32, {options.device}")
    print(f"{'':28}{'seconds':>9}{'tokens/s':>10}")
    print(f"{'vegtts_core policy':28}{our_seconds:9.2f}{tokens / our_seconds:10.1f}   peak RSS {our_rss:.2f} GiB")
    if plain_seconds is not None:
        print(f"{'the same, no CUDA graphs':28}{plain_seconds:9.2f}{tokens / plain_seconds:10.1f}")
    print(f"{'generate':28}{peer_seconds:9.2f}{tokens / peer_seconds:10.1f}")
    print(f"{'generate, repeated cache':28}{cached_seconds:9.2f}{tokens / cached_seconds:10.1f}")
    if options.vllm_python:
        for label, name in (("vLLM", "vllm"), ("vegtts_core policy on vLLM", "vllm_policy")):
            print(f"{label:28}{result[name + '_seconds']:9.2f}{result[name + '_tokens_per_second']:10.1f}")
        print(f"{'ratio to vLLM':28}{result['ratio_to_vllm']:9.2f}   {result['vllm']}")
    print(f"{'ratio':28}{result['ratio']:9.2f}")


if __name__ == "__main__":
    main()
