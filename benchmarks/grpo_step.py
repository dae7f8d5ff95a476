"""One GRPO update, forward and backward over a group of K completions: packed rows against TRL's own path.

Ours is ``training.logprobs``, the peer TRL's ``GRPOTrainer._compute_loss``, called on slices of the group as its
gradient accumulation would, without gradient checkpointing; the slice that is fastest for it, of ``--micro-batches``,
is found for each case and counts. Both sides run the same model (``--policy``) with the same LoRA weights of rank 16 on
all linear layers, the same tokens and advantages, compute the same loss (clipped ratio, mean over all tokens, no
KL) and the entropies that TRL logs; the two gradients are compared before anything is timed. Each side has a process
of its own, so that its peak memory is its own; they take turns, and the fastest of ``--repeats`` counts, as others may
use the machine. A case is PROMPTxKxTOKENS. With ``--groups G``, an update has G prompts with K completions each.

    python benchmarks/grpo_step.py [--cases 400x32x20,965x32x20,400x8x400] [--repeats 2] [--threads 2]
        [--policy embedded] [--device cuda] [--dtype bfloat16] [--groups 1] [--json] [--out FILE]

On a CPU that others use, ``--threads 1`` and the column of processor time (``cpu_ratio``) are what can be trusted.
With ``--json`` the object's ``ratio`` is the peer's seconds over ours in the first case; ``cases`` has all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import peft
import reporting
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from vegtts_core.policy.embedded import EMBEDDED
from vegtts_core.policy.folders import model_folder
from vegtts_core.training.logprobs import completion_logprobs, grouped_logprobs

RANK = 16
#: Tokens are drawn from the middle of the vocabulary, away from the special ones.
FIRST_TOKEN, LAST_TOKEN = 100, 49_000
MICRO_BATCHES = {"cpu": "1,2,4,8", "cuda": "4,8,16,32"}
#: What two exact computations of the same gradient may differ by, relative to its norm.
AGREEMENT = {"float32": 1e-3, "bfloat16": 0.2}


@dataclass(frozen=True)
class Case:
    """One group: a prompt and its completions, all of one length."""

    prompt: int
    k: int
    new: int

    @staticmethod
    def read(text: str) -> Case:
        return Case(*(int(part) for part in text.split("x")))

    def __str__(self) -> str:
        return f"{self.prompt}x{self.k}x{self.new}"


@dataclass(frozen=True)
class Data:
    """Tokens (groups, ...) and advantages (groups, k) of one update."""

    prompts: torch.Tensor
    completions: torch.Tensor
    advantages: torch.Tensor

    @staticmethod
    def draw(case: Case, groups: int) -> Data:
        random = torch.Generator().manual_seed(0)

        def tokens(*shape: int) -> torch.Tensor:
            return torch.randint(FIRST_TOKEN, LAST_TOKEN, shape, generator=random)

        return Data(
            tokens(groups, case.prompt),
            tokens(groups, case.k, case.new),
            torch.randn(groups, case.k, generator=random),
        )


def lora_model(policy: str, device: str, dtype: str) -> Any:
    """The policy's model with LoRA as both sides train it; random weights, so that all of them have a gradient."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder(policy), dtype=getattr(torch, dtype))
    torch.manual_seed(0)
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", init_lora_weights=False)
    return peft.get_peft_model(model, config).to(device).train()


def our_update(model: Any, data: Data, micro_batch: int) -> None:
    """Gradients of one update by packed rows; on a CPU group by group, as its trainer would."""
    total = data.completions.numel()

    def loss(logprobs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
        ratio = (logprobs - logprobs.detach()).exp()
        weighted, clipped = (each * advantages[:, None].to(ratio.device) for each in (ratio, ratio.clamp(0.8, 1.2)))
        return -torch.min(weighted, clipped).sum() / total

    prompts, completions = data.prompts.tolist(), data.completions.tolist()
    if next(model.parameters()).device.type == "cpu":
        for prompt, group, advantages in zip(prompts, completions, data.advantages, strict=True):
            logprobs, _ = completion_logprobs(model, prompt, group, entropy=True)
            loss(logprobs, advantages).backward()
        return
    found = grouped_logprobs(model, prompts, completions, entropy=True)
    losses = [loss(logprobs, each) for (logprobs, _), each in zip(found, data.advantages, strict=True)]
    torch.stack(losses).sum().backward()


def peer_trainer(model: Any, policy: str, device: str) -> Any:
    """TRL's trainer around the model, never asked to train: its loss is called on tokens that are there already."""
    import datasets
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        temperature=1.0,
        beta=0.0,
        loss_type="dapo",
        per_device_train_batch_size=2,
        num_generations=2,
    )
    trainer: Any = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0 for _ in completions],
        args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": ["x"] * 2}),
        processing_class=AutoTokenizer.from_pretrained(model_folder(policy)),
    )
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
    return trainer


def peer_update(trainer: Any, model: Any, data: Data, micro_batch: int) -> None:
    """Gradients of one update by TRL's loss, ``micro_batch`` completions at a time, the prompt before each of them."""
    device = model.device
    completions = data.completions.flatten(0, 1).to(device)
    prompts = data.prompts.repeat_interleave(data.completions.shape[1], 0).to(device)
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions,
        "completion_mask": torch.ones_like(completions),
        "advantages": data.advantages.flatten().to(device),
    }
    total = torch.tensor(completions.numel(), device=device)
    for start in range(0, len(completions), micro_batch):
        part = {name: tensor[start : start + micro_batch] for name, tensor in inputs.items()}
        trainer._compute_loss(model, {**part, "num_items_in_batch": total}).backward()


def work(side: str, options: argparse.Namespace) -> None:
    """A side's process: reads one request per line (``case``, ``micro_batch``, ``digest``), answers with one line."""
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = lora_model(options.policy, options.device, options.dtype)
    cuda = options.device != "cpu"
    if side == "ours":
        update: Callable[[Any, Data, int], None] = our_update
    else:
        trainer = peer_trainer(model, options.policy, options.device)
        model, update = trainer.model, partial(peer_update, trainer)
    for line in sys.stdin:
        request = json.loads(line)
        data = Data.draw(Case(**request["case"]), options.groups)
        model.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start, busy = time.perf_counter(), time.process_time()
        try:
            update(model, data, request["micro_batch"])
            if cuda:
                torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            print(json.dumps({"seconds": None}), file=answers, flush=True)
            continue
        answer: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}
        peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer["gib"] = peak / 2**30
        if request["digest"]:
            gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
            torch.save(torch.cat(gradients).cpu(), request["digest"])
        print(json.dumps(answer), file=answers, flush=True)


class Side:
    """One side's process, started when first asked and stopped for another case, so that peak memory starts anew."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        command = [sys.executable, __file__, "--worker", name, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, case: Case, micro_batch: int = 0, digest: str = "") -> dict[str, Any]:
        """``seconds`` (None if it did not fit) and ``gib``, the peak of this process so far."""
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"case": asdict(case), "micro_batch": micro_batch, "digest": digest}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"A process ended with status {self.process.wait()}: what it printed is above.")
        return json.loads(line)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def fastest_micro_batch(case: Case, sizes: list[int], arguments: list[str]) -> int:
    """The slice with which TRL is fastest, each run once after a first one that warms up."""
    side = Side("peer", arguments)
    side.run(Case(case.prompt, 1, 2), 1)
    seconds = {size: side.run(case, size)["seconds"] for size in sizes if size <= case.k}
    side.stop()
    return min((size for size in seconds if seconds[size] is not None), key=lambda size: seconds[size])


def measure(case: Case, options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Both sides of one case, in turns."""
    sizes = [int(size) for size in options.micro_batches.split(",")]
    micro_batch = fastest_micro_batch(case, sizes, arguments) if len(sizes) > 1 else sizes[0]
    ours, peer = Side("ours", arguments), Side("peer", arguments)
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/ours", f"{folder}/peer"]
        # The first run of either warms up; its gradient is what is compared.
        ours.run(case, 0, files[0])
        peer.run(case, micro_batch, files[1])
        gradient, reference = (torch.load(file) for file in files)
    deviation = float((gradient - reference).norm() / reference.norm())
    if deviation > AGREEMENT[options.dtype]:
        sys.exit(f"The gradients differ by {deviation:.1e} of their norm: a time would mean nothing.")
    runs = [(ours.run(case), peer.run(case, micro_batch)) for _ in range(options.repeats)]
    ours.stop()
    peer.stop()
    seconds = [min(run[side]["seconds"] for run in runs) for side in (0, 1)]
    busy = [min(run[side]["cpu_seconds"] for run in runs) for side in (0, 1)]
    memory = [runs[-1][side]["gib"] for side in (0, 1)]
    return {
        "case": str(case),
        "ratio": seconds[1] / seconds[0],
        "ours_seconds": seconds[0],
        "peer_seconds": seconds[1],
        "ours_peak_gib": memory[0],
        "peer_peak_gib": memory[1],
        "peer_micro_batch": micro_batch,
        "peer_slices_tried": [size for size in sizes if size <= case.k],
        "cpu_ratio": busy[1] / busy[0],
        "cpu_seconds": busy,
        "gradient_deviation": deviation,
        "seconds": [[run[side]["seconds"] for run in runs] for side in (0, 1)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="400x32x20,965x32x20,400x8x400", help="PROMPTxKxTOKENS, with commas")
    parser.add_argument("--groups", type=int, default=1, help="prompts per update")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(AGREEMENT), default="float32")
    parser.add_argument("--micro-batches", help="completions that TRL may take at a time; the fastest counts")
    parser.add_argument("--policy", default=EMBEDDED, help="embedded, a folder, a GGUF file or a hub id")
    parser.add_argument("--worker", choices=("ours", "peer"), help=argparse.SUPPRESS)
    reporting.add_arguments(parser)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return
    options.micro_batches = options.micro_batches or MICRO_BATCHES[options.device]
    names = ("policy", "device", "dtype", "threads", "groups")
    arguments = [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    import trl

    rows = [measure(Case.read(text), options, arguments) for text in options.cases.split(",")]
    result = {
        "benchmark": "grpo_step",
        "ratio": rows[0]["ratio"],
        "cases": rows,
        "peer": f"trl {trl.__version__} GRPOTrainer._compute_loss",
        "policy": Path(options.policy).name,
        "device": options.device,
        "dtype": options.dtype,
        "groups": options.groups,
        "threads": options.threads,
        "repeats": options.repeats,
    }
    if not reporting.hand_over(result, options, options.device):
        return
    place = f"{options.threads} threads" if options.device == "cpu" else torch.cuda.get_device_name()
    print(f"{result['policy']}: one update of {options.groups} group(s), LoRA r = {RANK}, {options.dtype}, {place}")
    titles = f"{'prompt x K x new':18}{'ours s':>9}{'TRL s':>9}{'ratio':>8}{'cpu':>8}"
    print(f"{titles}{'ours GiB':>10}{'TRL GiB':>9}  TRL's slice")
    for row in rows:
        print(
            f"{row['case']:18}{row['ours_seconds']:9.2f}{row['peer_seconds']:9.2f}{row['ratio']:8.1f}"
            f"{row['cpu_ratio']:8.1f}{row['ours_peak_gib']:10.2f}{row['peer_peak_gib']:9.2f}  {row['peer_micro_batch']}"
        )


if __name__ == "__main__":
    main()
