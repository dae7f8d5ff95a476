"""What the paper's runs would cost on one GPU, a node, a cluster, or behind a server: tables of the scale chapter.

Every number is a plan's (`vegtts_core.plan`), or follows from one: nothing is measured here, and nothing that this
machine is enters, so that the tables are the same everywhere. Prompts are counted with the embedded policy's tokenizer,
also where a machine has the policy's own. The words beside the tables are in ``scaling_out_words``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.tables import Column
from vegtts_core.plan.counts import Work, work_of
from vegtts_core.plan.durations import Seconds, share
from vegtts_core.plan.families import families
from vegtts_core.plan.library import Library
from vegtts_core.plan.memory import Memory
from vegtts_core.plan.observed import observe, rates_of
from vegtts_core.plan.planning import RunPlan, plan_work
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.plan.table import size
from vegtts_core.policy.embedded import EMBEDDED
from vegtts_core.project import recorded_folder

#: The paper's own test-time training and search, as sections and runs of params/paper.yaml.
TTT, SEARCH = ("paper", "adaptation", "seed_42"), ("paper", "best_of_n", "best_of_n")
#: Training that did run on a GPU, one: how the shipped adapter was made.
RAN = ("embedded_adapter", "rlvr", "rlvr")
#: GiB of the device that plans are held against, an H100's, and how many a node and the cluster have.
DEVICE_GIB, NODE, CLUSTER = 80.0, 8, 16
#: The recorded run whose rates give the times, and the section that they are given for.
RATES, TIMED = "adaptation_cpu_44", ("recorded_cpu", "adaptation", "adaptation_cpu_42")
#: Completions this long at most, and so many per task and step, instead of the paper's 1024 tokens and 32.
SHORT, FEW = 64, 8

Name = tuple[str, str, str]
"""(parameter file, section, run)"""


@cache
def work(name: Name, **changes: Any) -> Work:
    """What the run does, with ``changes`` to its parameters."""
    params, section, run = name
    found = next(family for family in families(params, section) if family.name == run)
    changed = found.parameters.model_copy(update=changes)
    return work_of(replace(found, parameters=changed), prompt_counter(EMBEDDED))


def planned(name: Name, devices: int = 1, sharded: bool = False, **changes: Any) -> RunPlan:
    """The plan of a run without rates, its completions as long as the paper's were."""
    return plan_work(work(name, **changes), Library(), devices, sharded, completion_length(), DEVICE_GIB)


def completion_length() -> float:
    """Tokens of a completion in the paper: the mean of the four quartiles of section 5.2."""
    return float(published.table("5.2-quartiles")["mean_tokens"].mean())


# -- what is spent ----------------------------------------------------------------------------------------------------

COST_COLUMNS = {
    "situation": Column("situation"),
    "run": Column("run"),
    "rollouts": Column("rollouts", ",.0f"),
    "prompt": Column("prompt", ",.0f", group="thousand tokens"),
    "prompt_once": Column("prompts once", ",.1f", group="thousand tokens"),
    "completion": Column("completion", ",.1f", group="thousand tokens"),
    "completion_most": Column("at most", ",.0f", group="thousand tokens"),
    "share": Column("sampling, updates", ".0%", group="largest share of a device"),
    "judged": Column("judged, at most", ",.0f", group="largest share of a device"),
}


def cost() -> pd.DataFrame:
    """What each situation spends on the paper's run; columns of ``COST_COLUMNS``.

    Under ``accelerate launch`` the main process evaluates alone, on a cluster every device does. Behind a server
    nothing can be trained, so that row is Best-of-N.
    """
    step, units = len(work(TTT).calls[0]), len(work(SEARCH).calls)
    ttt, search = planned(TTT), planned(SEARCH)
    rows = [
        ("one GPU", "TTT", ttt, 1.0, 1),
        (f"a node of {NODE}", "TTT", ttt, share(step, NODE), 1),
        (f"a cluster of {CLUSTER}", "TTT", ttt, 1.0, CLUSTER),
        (f"a cluster of {CLUSTER}", "Best-of-N", search, share(units, CLUSTER), CLUSTER),
        ("an API key", "Best-of-N", search, float("nan"), 1),
    ]
    return pd.DataFrame([_cost(*row) for row in rows], columns=list(COST_COLUMNS))


def _cost(situation: str, run: str, plan: RunPlan, part: float, judging: int) -> dict[str, Any]:
    assert plan.expected is not None
    judged = plan.bound.distinct_candidates + plan.bound.correct + plan.references
    return {
        "situation": situation,
        "run": run,
        "rollouts": plan.rollouts,
        "prompt": plan.prompt_tokens / 1e3,
        "prompt_once": plan.prompt_tokens_computed / 1e3,
        "completion": plan.expected.completion_tokens / 1e3,
        "completion_most": plan.bound.completion_tokens / 1e3,
        "share": part,
        "judged": judged / judging,
    }


# -- what is held -----------------------------------------------------------------------------------------------------

MEMORY_COLUMNS = {
    "term": Column("term"),
    "search": Column("one device", "s", group="Best-of-N"),
    "search_split": Column(f"weights over {NODE}", "s", group="Best-of-N"),
    "ttt": Column("one device, or each of several", "s", group="TTT"),
    "ttt_spread": Column(f"weights over {NODE}", "s", group="TTT"),
    "ran": Column("RLVR, one H100", "s", group="embedded policy"),
}

TERMS: dict[str, Callable[[Memory], int]] = {
    "weights": lambda memory: memory.weights,
    "adapter, gradients, moments": lambda memory: memory.adapter + memory.gradients + memory.moments,
    "keys and values": lambda memory: memory.prompt_cache + memory.completion_cache,
    "logits of decoding": lambda memory: memory.sampling_logits,
    "activations": lambda memory: memory.activations,
    "logits of an update": lambda memory: memory.update_logits,
    "at most at a time": lambda memory: memory.total,
}
WHOLE, FITS = "weights put together, to sample", f"fits {DEVICE_GIB:.0f} GiB"


def memories() -> dict[str, Memory]:
    """Memory of a device, by column of ``MEMORY_COLUMNS``."""
    plans = {
        "search": planned(SEARCH),
        "search_split": planned(SEARCH, NODE, True),
        "ttt": planned(TTT),
        "ttt_spread": planned(TTT, NODE, True),
        "ran": planned(RAN),
    }
    return {name: plan.memory for name, plan in plans.items() if plan.memory is not None}


def whole_sampling(memory: Memory) -> int:
    """Bytes while a policy that is whole on each device samples: FSDP puts it together for that."""
    return memory.kept + memory.sampling


def gib(count: float) -> float:
    """Bytes in GiB."""
    return count / 2**30


def memory_table(found: dict[str, Memory]) -> pd.DataFrame:
    """Terms of a device's memory; columns of ``MEMORY_COLUMNS``. An empty cell: the term is not there."""
    rows = [
        {"term": term} | {name: size(read(memory)) if read(memory) else None for name, memory in found.items()}
        for term, read in TERMS.items()
    ]
    together = {"ttt_spread": whole_sampling(found["ttt"])}
    rows.append({"term": WHOLE} | {name: size(count) for name, count in together.items()})
    most = {name: max(memory.total, together.get(name, 0)) for name, memory in found.items()}
    rows.append({"term": FITS} | {name: "yes" if gib(count) <= DEVICE_GIB else "no" for name, count in most.items()})
    frame = pd.DataFrame(rows, columns=list(MEMORY_COLUMNS))
    return frame.astype(object).where(frame.notna(), None)


def smaller() -> tuple[float, float, float]:
    """GiB of a device with the embedded policy: the paper's TTT; ``SHORT`` tokens at most; those and K ``FEW``."""
    changes: list[dict[str, Any]] = [{}, {"max_new_tokens": SHORT}, {"max_new_tokens": SHORT, "k": FEW}]
    plans = [planned(TTT, policy=EMBEDDED, adapter=None, **change) for change in changes]
    whole, short, few = (gib(plan.memory.total) for plan in plans if plan.memory is not None)
    return whole, short, few


# -- how long it takes ------------------------------------------------------------------------------------------------

TIME_COLUMNS = {
    "devices": Column("devices", "d"),
    "sampling": Column("sampling", ",.0f", "s"),
    "update": Column("updates", ",.0f", "s"),
    "evaluation": Column("evaluation", ",.0f", "s", "one device evaluates"),
    "total": Column("total", ",.0f", "s", "one device evaluates"),
    "faster": Column("faster", "{:.1f}×", group="one device evaluates"),
    "evaluation_spread": Column("evaluation", ",.0f", "s", "all evaluate"),
    "total_spread": Column("total", ",.0f", "s", "all evaluate"),
    "faster_spread": Column("faster", "{:.1f}×", group="all evaluate"),
}


def times(counts: tuple[int, ...] = (1, 2, 4, 8)) -> pd.DataFrame:
    """Seconds of a test-time training run on so many devices of one kind; columns of ``TIME_COLUMNS``."""
    source = observe(recorded_folder() / RATES)
    assert source is not None
    library = Library([source], [rates_of([source])])
    rows: list[dict[str, Any]] = []
    for devices in counts:
        spent = plan_work(work(TIMED), library, devices, device_gib=DEVICE_GIB).expected_seconds
        assert spent is not None
        rows.append({"devices": devices, "sampling": spent.sampling, "update": spent.update} | _evaluated(spent, rows))
    return pd.DataFrame(rows, columns=list(TIME_COLUMNS))


def _evaluated(spent: Seconds, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Evaluation and total by one device and by all; ``rows``: fewer devices, the first row being one."""
    judging, total = spent.evaluation, spent.total
    assert judging is not None and total is not None
    alone = rows[0]["evaluation"] if rows else judging
    first = rows[0]["total"] if rows else total
    return {
        "evaluation": alone,
        "total": total - judging + alone,
        "faster": first / (total - judging + alone),
        "evaluation_spread": judging,
        "total_spread": total,
        "faster_spread": first / total,
    }
