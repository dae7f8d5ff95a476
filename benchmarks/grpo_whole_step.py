"""A whole GRPO step, sampling included: our trainer and policy against TRL's GRPOTrainer.

Both begin with the same model and LoRA weights and make steps of one group: K completions of one prompt, all TOKENS
long (end-of-sequence is suppressed), rewards that cost nothing, one update with AdamW. TRL generates with
``transformers.generate``, its default where vLLM is absent, and takes the slice of the update that was fastest for it.
Ours records its decode steps as CUDA graphs on a GPU, as it does everywhere (``--no-cuda-graphs``: it does not), and
writes a checkpoint after every step, TRL none. Each side has a process of its own; its first step warms up and the
fastest of the others counts. `grpo_step.py` measures the update alone.

    python benchmarks/grpo_whole_step.py [--cases 400x32x20] [--repeats 2] [--threads 2] [--device cuda]
        [--policy embedded] [--json] [--out FILE]

With ``--json`` the object's ``ratio`` is TRL's seconds over ours in the first case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpo_step
import numpy as np
import reporting
import torch
import transformers
from transformers import AutoTokenizer, TrainerCallback

from vegtts_core.policy.embedded import EMBEDDED
from vegtts_core.policy.folders import model_folder
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import PolicyIdentity, SamplingParameters
from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.training.groups import Group, UpdateParameters
from vegtts_core.training.update import train


def prompt_of(tokenizer: Any, length: int) -> Prompt:
    """The longest prompt of one repeated word that renders to at most ``length`` tokens."""

    def made(words: int) -> Prompt:
        return Prompt("filler", (Message(Role.USER, " ".join(["kernel"] * words)),))

    words = 1
    while len(prompt_token_ids(tokenizer, made(words + 1))) <= length:
        words += 1
    return made(words)


def worth(ids: list[int]) -> float:
    """A reward that differs between completions and costs nothing."""
    return float(sum(ids) % 97)


def our_steps(case: grpo_step.Case, options: argparse.Namespace) -> list[float]:
    """Seconds of each step of `training.update.train`, from one request for rollouts to the next."""
    model = grpo_step.lora_model(options.policy, options.device, "float32")
    tokenizer = AutoTokenizer.from_pretrained(model_folder(options.policy))
    prompt = prompt_of(tokenizer, case.prompt)
    identity = PolicyIdentity(options.policy, "", None, "float32", options.device, {})
    policy = TransformersPolicy(model, tokenizer, identity, cuda_graphs=not options.no_cuda_graphs)
    policy.eos_ids = frozenset()
    moments: list[float] = []

    def rollouts(step: int) -> list[Group]:
        moments.append(time.perf_counter())
        completions = policy.sample([prompt], case.k, SamplingParameters(1.0, case.new), step)[0]
        ids = [list(completion.token_ids) for completion in completions]
        assert all(len(row) == case.new for row in ids)
        rewards = np.array([worth(row) for row in ids])
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        return [Group(prompt_token_ids(tokenizer, prompt), ids, advantages)]

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            tokenizer,
            rollouts,
            Path(folder),
            UpdateParameters(),
            steps=options.repeats + 1,
            groups=1,
            temperature=1.0,
            seed=0,
        )
    moments.append(time.perf_counter())
    return np.diff(moments).tolist()


def peer_steps(case: grpo_step.Case, options: argparse.Namespace) -> list[float]:
    """Seconds of each step of TRL's trainer, as its own callbacks see them."""
    import datasets
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder(options.policy))
    ids = prompt_token_ids(tokenizer, prompt_of(tokenizer, case.prompt))
    text = tokenizer.decode(ids)
    assert tokenizer(text)["input_ids"] == ids
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=options.device == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            temperature=1.0,
            beta=0.0,
            loss_type="dapo",
            learning_rate=1.0e-5,
            max_steps=options.repeats + 1,
            max_completion_length=case.new,
            generation_kwargs={"min_new_tokens": case.new},
            per_device_train_batch_size=options.micro_batch,
            gradient_accumulation_steps=case.k // options.micro_batch,
            num_generations=case.k,
        )
        trainer: Any = GRPOTrainer(
            model=grpo_step.lora_model(options.policy, options.device, "float32"),
            reward_funcs=lambda completion_ids, **_: [worth(row) for row in completion_ids],
            args=config,
            train_dataset=datasets.Dataset.from_dict({"prompt": [text] * (options.repeats + 1)}),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return seconds


def work(side: str, options: argparse.Namespace) -> None:
    """A side's process: one case, its steps' seconds on one line."""
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    steps = our_steps if side == "ours" else peer_steps
    print(json.dumps(steps(grpo_step.Case.read(options.cases), options)), file=answers, flush=True)


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides of one case, one after the other."""
    names = ("policy", "device", "threads", "repeats")
    arguments = [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    arguments += ["--no-cuda-graphs"] if options.no_cuda_graphs else []
    sizes = [int(size) for size in grpo_step.MICRO_BATCHES[options.device].split(",")]
    step = [*arguments[: 2 * names.index("repeats")], "--dtype", "float32", "--groups", "1"]
    micro_batch = options.micro_batch or grpo_step.fastest_micro_batch(grpo_step.Case.read(case), sizes, step)
    seconds = {}
    for side in ("ours", "peer"):
        command = [sys.executable, __file__, "--worker", side, "--cases", case, "--micro-batch", str(micro_batch)]
        done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"A process ended with status {done.returncode}: what it printed is above.")
        seconds[side] = json.loads(done.stdout)
    ours, peer = (min(seconds[side][1:]) for side in ("ours", "peer"))
    return {
        "case": case,
        "ratio": peer / ours,
        "ours_seconds": ours,
        "peer_seconds": peer,
        "peer_micro_batch": micro_batch,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="400x32x20", help="PROMPTxKxTOKENS, with commas")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--micro-batch", type=int, help="completions that TRL takes at a time (default: the fastest)")
    parser.add_argument("--policy", default=EMBEDDED, help="embedded, a folder, a GGUF file or a hub id")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="run our decode steps one kernel at a time")
    parser.add_argument("--worker", choices=("ours", "peer"), help=argparse.SUPPRESS)
    reporting.add_arguments(parser)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return
    import trl

    rows = [measure(case, options) for case in options.cases.split(",")]
    result = {
        "benchmark": "grpo_whole_step",
        "ratio": rows[0]["ratio"],
        "cases": rows,
        "peer": f"trl {trl.__version__} GRPOTrainer.train, transformers.generate",
        "policy": Path(options.policy).name,
        "device": options.device,
        "cuda_graphs": options.device == "cuda" and not options.no_cuda_graphs,
        "dtype": "float32",
        "threads": options.threads,
        "repeats": options.repeats,
    }
    if not reporting.hand_over(result, options, options.device):
        return
    print(f"{'prompt x K x new':18}{'ours s':>9}{'TRL s':>9}{'ratio':>8}  TRL's slice")
    for row in rows:
        print(
            f"{row['case']:18}{row['ours_seconds']:9.2f}{row['peer_seconds']:9.2f}{row['ratio']:8.1f}"
            f"  {row['peer_micro_batch']}"
        )


if __name__ == "__main__":
    main()
