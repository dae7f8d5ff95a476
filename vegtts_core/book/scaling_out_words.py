"""The scale chapter's words: what to set in each situation, which commands were run and on what, and its numbers.

A mark says what happened in this project, by a test or by hand, and nothing of other machines. It computes nothing
itself: numbers come from ``scaling_out``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

import pandas as pd

from vegtts_core.book import scaling_out as out
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.plan.memory import Memory


class Mark(StrEnum):
    """Whether a command was run in this project."""

    RUN = "run here"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Situation:
    """What somebody has. ``memory``: the column of the memory table that the paper's own run would fill."""

    name: str
    settings: str
    tested: str
    memory: str | None
    expect: str


SITUATIONS = (
    Situation(
        "one GPU",
        "`device: cuda`; `k` and `max_new_tokens` to fit; `sampler: vllm` if vLLM is there",
        "Training, sampling and evaluation on one H100 (`params/h100.yaml`). vLLM 0.31 on a CPU only",
        "ttt",
        "The paper's policy does not fit. Small ones do, and sampling and updates follow one another",
    ),
    Situation(
        "a node of 8",
        "`num_processes` in `params/accelerate/ddp.yaml`, `fsdp.yaml` or `deepspeed.yaml`; for search "
        "`vllm: {tensor_parallel_size: 8}`",
        "Two processes on one CPU over gloo: whole, spread weights, ZeRO 1 and 2; two of vLLM's workers. No two GPUs",
        "ttt_spread",
        "One process per task of a step has work. The main process evaluates alone",
    ),
    Situation(
        "a cluster",
        "`pool: ray`, `ray: {address: auto}`; for search `prompts_per_batch: 1`",
        "Three Ray nodes on one machine, a worker and a node killed. No second machine, no GPU",
        "ttt",
        "Search spreads whole; runs that move weights spread their evaluation only",
    ),
    Situation(
        "an API key",
        "`policy: served:MODEL`, `served: {base_url, key_variable}`",
        "vLLM's own server on a CPU and a server of the tests, on loopback. No hosted service",
        None,
        "Best-of-N and its analysis. Nothing that trains: the weights are elsewhere",
    ),
)

SITUATION_COLUMNS = {
    "name": Column("you have"),
    "settings": Column("what to set"),
    "tested": Column("what it ran on"),
    "memory": Column("the paper's TTT, per device", "s"),
    "expect": Column("what to expect"),
}


def situation_table(found: dict[str, Memory]) -> pd.DataFrame:
    """The four situations, each with the memory that the paper's TTT asks of a device there."""

    def held(name: str | None) -> str | None:
        if name is None:
            return None
        spread = ", weights spread" if name == "ttt_spread" else ""
        return f"{number(out.gib(found[name].total), ',.0f')} GiB{spread}"

    return pd.DataFrame([asdict(one) | {"memory": held(one.memory)} for one in SITUATIONS])


# -- parameters -------------------------------------------------------------------------------------------------------

ONE_GPU = """\
adaptation:
  policy: FOLDER_OR_HUB_ID    # trained in float32, four bytes a weight
  device: cuda
  size: kernelbench
  k: 8                        # rollouts per task and step
  max_new_tokens: 64          # memory is planned for completions of this length
  sampler: vllm               # an engine beside the trainer; leave it out without vLLM
  vllm: {gpu_memory_utilization: 0.3}
"""
NODE = """\
best_of_n:
  policy: FOLDER_OR_HUB_ID
  dtype: bfloat16
  device: cuda
  size: kernelbench
  sampler: vllm
  vllm: {tensor_parallel_size: 8}    # the engine's GPUs share the weights
"""
CLUSTER = """\
best_of_n:
  policy: FOLDER_OR_HUB_ID    # a folder must have the same path on all nodes
  device: cuda
  size: kernelbench
  prompts_per_batch: 1        # a sampling unit is one prompt and one seed
  pool: ray
  ray: {address: auto}        # or HEAD:6379, or local
"""
API_KEY = """\
best_of_n:
  policy: served:MODEL
  served:
    base_url: https://SERVER/v1
    key_variable: OPENAI_API_KEY    # the variable's name; the key is written nowhere
    choices_per_request: 16         # where the server knows n
    requests_per_minute: 60
  device: cpu                       # where candidates are measured
  size: cpu
  k: 16
"""

# -- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command as it is typed, whether it was run, and on what (or what was run instead)."""

    situation: str
    line: str
    mark: Mark
    where: str


_ANY, _GPU, _NODE, _CLUSTER, _KEY = "any", "one GPU", "a node", "a cluster", "an API key"
_TRAIN = "-m vegtts_core.training adapt"
COMMANDS = (
    Command(
        _ANY,
        "python -m vegtts_core.plan paper --devices 8 --sharded --device-memory 80",
        Mark.RUN,
        "on a CPU; it reads, counts and multiplies",
    ),
    Command(
        _ANY, "make test-vllm", Mark.RUN, "by hand, vLLM 0.31 on a CPU: search, and training with the engine beside it"
    ),
    Command(
        _GPU,
        "python -m vegtts_core.training rlvr --params embedded_adapter --export FOLDER",
        Mark.RUN,
        "policy on one H100, candidates on its CPU; recorded in `data/runs/rlvr_embedded`",
    ),
    Command(_GPU, "make exploits DEVICE=cuda", Mark.RUN, "one H100; recorded in `data/measurement`"),
    Command(_GPU, f"python {_TRAIN} --params paper", Mark.NOT_RUN, "its policy does not fit"),
    Command(
        _NODE,
        f"accelerate launch --config_file params/accelerate/ddp_cpu.yaml {_TRAIN} --params cpu",
        Mark.RUN,
        "two processes on one CPU, by hand and, with a tiny policy, in the tests",
    ),
    Command(
        _NODE,
        f"accelerate launch --config_file params/accelerate/ddp.yaml {_TRAIN} --params paper",
        Mark.NOT_RUN,
        "the same code ran over gloo; NCCL did not",
    ),
    Command(
        _NODE,
        f"accelerate launch --config_file params/accelerate/fsdp.yaml {_TRAIN} --params paper",
        Mark.NOT_RUN,
        "what it switches on ran in two processes on a CPU; refused for this policy",
    ),
    Command(
        _NODE,
        f"accelerate launch --config_file params/accelerate/deepspeed_cpu.yaml {_TRAIN} --params cpu",
        Mark.RUN,
        "in the tests, with a tiny policy; `deepspeed.yaml`, on GPUs, was not run",
    ),
    Command(
        _NODE,
        "python -m vegtts_core.search --params FILE",
        Mark.NOT_RUN,
        "`sampler: vllm` on GPUs; on a CPU, two workers shared the weights in `make test-vllm`",
    ),
    Command(
        _CLUSTER,
        """ray start --head --disable-usage-stats --resources='{"vegtts_device": 1}'""",
        Mark.RUN,
        "with further options: loopback, another port",
    ),
    Command(
        _CLUSTER,
        """ray start --address=HEAD:6379 --disable-usage-stats --resources='{"vegtts_device": 1}'""",
        Mark.RUN,
        "likewise, on the head's own machine; on another not run",
    ),
    Command(
        _CLUSTER,
        "python -m vegtts_core.search --params FILE",
        Mark.RUN,
        "`pool: ray` on those two nodes, and on three in the tests; embedded policy, CPUs",
    ),
    Command(
        _KEY,
        "python -m vegtts_core.search --params FILE",
        Mark.RUN,
        "the embedded policy behind a server of the tests, killed and gone on with",
    ),
    Command(_KEY, "python -m vegtts_core.search --params served", Mark.NOT_RUN, "as it stands it asks for a 20B model"),
)

COMMAND_COLUMNS = {
    "situation": Column("you have"),
    "line": Column("command"),
    "mark": Column("mark"),
    "where": Column("on what"),
}


def command_table() -> pd.DataFrame:
    """The commands with their marks."""
    rows = [asdict(one) | {"line": f"`{one.line}`", "mark": str(one.mark)} for one in COMMANDS]
    return pd.DataFrame(rows)


# -- numbers ----------------------------------------------------------------------------------------------------------


def facts(cost: pd.DataFrame, found: dict[str, Memory], times: pd.DataFrame) -> dict[str, str]:
    """What the prose mentions, by name."""
    ttt, search = out.work(out.TTT), out.work(out.SEARCH)
    whole, short, few = out.smaller()
    served = out.work(("served", "best_of_n", "best_of_n"))
    trained, timed = out.work(("paper", "rlvr", "rlvr")), out.work(out.TIMED)
    row = times.set_index("devices").loc[out.NODE]
    return {
        "marks-run": str(sum(one.mark is Mark.RUN for one in COMMANDS)),
        "marks": str(len(COMMANDS)),
        "node": str(out.NODE),
        "cluster": str(out.CLUSTER),
        "device": number(out.DEVICE_GIB, ".0f"),
        "length": number(out.completion_length(), ".1f"),
        "most": f"{ttt.max_new_tokens:,}",
        "tasks": str(len(ttt.calls[0])),
        "rollouts": f"{ttt.rollouts:,}",
        "steps": str(len(ttt.updates)),
        "idle": str(out.NODE - len(ttt.calls[0])),
        "ttt": number(out.gib(found["ttt"].total), ",.0f"),
        "ttt-weights": number(out.gib(found["ttt"].weights), ",.0f"),
        "ttt-spread": number(out.gib(found["ttt_spread"].total), ",.0f"),
        "ttt-whole": number(out.gib(out.whole_sampling(found["ttt"])), ",.0f"),
        "search": number(out.gib(found["search"].total), ",.0f"),
        "search-split": number(out.gib(found["search_split"].total), ",.0f"),
        "ran": number(out.gib(found["ran"].total), ",.0f"),
        "largest": number(out.DEVICE_GIB * 2**30 / 4 / 1e9, ",.0f"),
        "small": number(whole, ",.0f"),
        "small-short": number(short, ",.0f"),
        "small-few": number(few, ",.0f"),
        "short": str(out.SHORT),
        "few": str(out.FEW),
        "trained": str(len(trained.calls[0])),
        "timed-tasks": str(len(timed.calls[0])),
        "timed-steps": str(len(timed.updates)),
        "k": str(ttt.calls[0][0].k),
        "units": str(len(search.calls)),
        "units-single": str(len(out.work(out.SEARCH, prompts_per_batch=1).calls)),
        "judged": number(float(cost["judged"].iloc[0]), ",.0f"),
        "served-rollouts": f"{served.rollouts:,}",
        "served-prompt": number(served.prompt_tokens / 1e3, ",.0f"),
        "served-once": number(served.prompt_tokens_computed / 1e3, ",.0f"),
        "served-ratio": number(served.prompt_tokens / served.prompt_tokens_computed, ",.0f"),
        "faster": number(float(row["faster"]), ".1f"),
        "faster-spread": number(float(row["faster_spread"]), ".1f"),
    }


def takeaway(values: dict[str, str]) -> str:
    """The chapter's last words."""
    return (
        f"Plan before anything runs. By its plan the paper's own test-time training asks {values['ttt']} GiB of a "
        f"device, or {values['ttt-spread']} with weights spread over {values['node']}: with this library it fits no "
        f"GPU, while its search fits a node. A step has as much to share out as it has tasks ({values['tasks']}), and "
        "only `pool: ray` spreads evaluation over GPUs. Nothing on this page ran on two GPUs or two machines; what ran "
        "is marked."
    )
