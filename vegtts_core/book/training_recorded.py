"""What chapter 3.2 reads from ``data/measurement``: updates and decoding timed, the adapter on evaluation tasks.

``benchmarks/grpo_step.py`` writes ``grpo_step_cpu.json`` and ``grpo_step_cuda.json`` (the embedded policy) and
``grpo_step_cuda_large.json`` (the study's), ``benchmarks/decode_steps.py`` writes ``decode_steps_cuda.json``;
``embedded_adapter.json`` holds one row per policy, scaffold and temperature. An edition without one of them says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import pandas as pd

from vegtts_core.book.measurement import NOTHING, Recording, in_full, or_nothing, recorded
from vegtts_core.book.prose import listed, number
from vegtts_core.book.tables import Column
from vegtts_core.policy.embedded import EMBEDDED

STEPS = ("grpo_step_cpu", "grpo_step_cuda", "grpo_step_cuda_large")
DECODING = "decode_steps_cuda"
ADAPTER = "embedded_adapter"

#: Policies in the order of training.
POLICIES = ("base", "warm start", "rlvr")

_NAMES = {
    "grpo_step_cpu": "the update on a CPU",
    "grpo_step_cuda": "the update on a GPU",
    "grpo_step_cuda_large": "the larger policy's update on a GPU",
    ADAPTER: "the adapter on the evaluation tasks",
}


def benchmarks() -> list[Recording]:
    """The recordings of the update that exist."""
    return recorded(*STEPS)


def adapter() -> Recording | None:
    """The recording of the three policies on the evaluation tasks, if there is one."""
    return next(iter(recorded(ADAPTER)), None)


def absent(*names: str) -> str:
    """A sentence for a caption, with a space in front, about recordings that are missing; else empty."""
    there = {found.name for found in recorded(*names)}
    missing = [_NAMES[name] for name in names if name not in there]
    return f" Not recorded for this edition: {'; '.join(missing)}." if missing else ""


def updates(found: Sequence[Recording]) -> pd.DataFrame:
    """One row per case: ``UPDATE_COLUMNS``; slice and memory are texts."""
    rows = []
    for recording in found:
        data = recording.data
        for case in data["cases"]:
            prompt, k, tokens = (int(part) for part in str(case["case"]).split("x"))
            rows.append(
                {
                    "model": _model(str(data.get("policy", EMBEDDED))),
                    "where": f"{recording.label}, {data['dtype']}",
                    "groups": int(data.get("groups", 1)),
                    "prompt": prompt,
                    "k": k,
                    "tokens": tokens,
                    "ours": float(case["ours_seconds"]),
                    "peer": float(case["peer_seconds"]),
                    "ratio": float(case["ratio"]),
                    "slice": f"{case['peer_micro_batch']} of {', '.join(map(str, case['peer_slices_tried']))}",
                    "memory": f"{case['ours_peak_gib']:.1f} / {case['peer_peak_gib']:.1f}",
                    "deviation": float(case["gradient_deviation"]),
                }
            )
    return pd.DataFrame(rows, columns=list(UPDATE_COLUMNS))


def _model(policy: str) -> str:
    """A recording's policy as the study calls it: its number of parameters."""
    if policy == EMBEDDED:
        return "135M"
    size = re.search(r"\d+(\.\d+)?[BM]", policy)
    return size[0] if size else policy


UPDATE_COLUMNS = {
    "model": Column("model"),
    "where": Column("on"),
    "groups": Column("groups", "d"),
    "prompt": Column("prompt", "d", "tokens"),
    "k": Column("K", "d"),
    "tokens": Column("completion", "d", "tokens"),
    "ours": Column("ours", ".2f", "s"),
    "peer": Column("TRL", ".2f", "s"),
    "ratio": Column("ratio", "{:.1f}×"),
    "slice": Column("TRL's slice, of those tried"),
    "memory": Column("memory, ours / TRL", "", "GiB"),
    "deviation": Column("gradients differ by", ".0e"),
}


def updates_table(found: Sequence[Recording]) -> pd.DataFrame:
    """``updates``, or one row that says that nothing was recorded."""
    return or_nothing(updates(found), "where")


def update_range(found: Sequence[Recording]) -> str:
    """``135M on CPU: 1.1× to 16.2×; 135M on H100: …``, or that nothing was recorded."""
    table = updates(found)
    if table.empty:
        return NOTHING
    parts = []
    for (model, where), rows in table.groupby(["model", "where"], sort=False):
        low, high = rows["ratio"].min(), rows["ratio"].max()
        parts.append(f"{model} on {where}: {low:.1f}×" + (f" to {high:.1f}×" if high > low else ""))
    return "; ".join(parts)


def update_verdict(found: Sequence[Recording]) -> str:
    """Whether packing ever loses, and by how much the two gradients differ at most."""
    table = updates(found)
    if table.empty:
        return "Not decided in this edition."
    slower = table[table["ratio"] < 1]
    worst = number(float(table["deviation"].max()), ".0e")
    text = "It is faster in every case" if slower.empty else f"It is slower in {len(slower)} of {len(table)} cases"
    return f"{text}, and the gradients differ by at most {worst} of their norm."


def decoding_text() -> str:
    """What a decode step takes on a GPU, launched kernel by kernel and as a CUDA graph; empty if not recorded."""
    found = next(iter(recorded(DECODING)), None)
    if found is None:
        return ""
    steps = [
        f"{row['plain_ms']:.0f} ms and {row['graph_ms']:.1f} ms at {row['rows']} rows ({row['ratio']:.1f}×)"
        for row in found.data["rows"]
    ]
    return (
        f"On a GPU a small model's step is mostly launches: on an {found.label} one decode step of the "
        f"{found.data['model']} model, behind a prompt of {found.data['prompt_tokens']} tokens, takes "
        f"{listed(steps)}, launched kernel by kernel and replayed as a CUDA graph."
    )


def update_setting(found: Sequence[Recording]) -> str:
    """A sentence about the machines and the peer, with a space in front; empty where nothing was recorded."""
    if not found:
        return ""
    machines = "; ".join(dict.fromkeys(filter(None, (in_full(each.machine) for each in found))))
    peer = str(found[0].data.get("peer", "TRL"))
    return f" Peer: {peer}." + (f" Machines: {machines}." if machines else "")


def policies(found: Recording | None) -> pd.DataFrame:
    """Base, warm start and RLVR on the evaluation tasks, one row each per scaffold and temperature.

    Columns as ``POLICY_COLUMNS``; ordered by scaffold, temperature, then training.
    """
    rows = [_policy(row) for row in found.data["rows"]] if found is not None else []
    frame = pd.DataFrame(rows, columns=[*POLICY_COLUMNS, "share", "low", "high", "order"])
    return frame.sort_values(["scaffold", "temperature", "order"], kind="stable", ignore_index=True)


def _policy(row: Mapping[str, Any]) -> dict[str, Any]:
    speeds = [row.get(f"speedup_{name}") for name in ("p10", "median", "p90")]
    known = all(value is not None and value == value for value in speeds)
    return {
        "scaffold": row["scaffold"],
        "temperature": float(row["temperature"]),
        "policy": row["policy"],
        "samples": int(row["samples"]),
        "tasks": int(row["tasks"]),
        "correct": f"{row['correct']:.0%} [{row['low']:.0%}, {row['high']:.0%}]",
        "distinct": float(row["median_distinct_correct"]),
        "speeds": "–".join(f"{value:.2f}" for value in speeds[::2]) if known else None,
        "speed": float(row["speedup_median"]) if known else float("nan"),
        "spread": float(row["speedup_p90"]) / float(row["speedup_p10"]) if known else float("nan"),
        "share": float(row["correct"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
        "order": POLICIES.index(row["policy"]) if row["policy"] in POLICIES else len(POLICIES),
    }


POLICY_COLUMNS = {
    "scaffold": Column("scaffold"),
    "temperature": Column("T", "g"),
    "policy": Column("policy"),
    "samples": Column("n", ",d"),
    "tasks": Column("tasks", "d"),
    "correct": Column("correct [95%]"),
    "distinct": Column("distinct correct, median task", ".1f"),
    "speed": Column("median", "{:.2f}×", group="speedup of correct samples"),
    "speeds": Column("10th to 90th percentile", group="speedup of correct samples"),
    "spread": Column("ratio", "{:.1f}×", group="speedup of correct samples"),
}


def policies_table(found: Recording | None) -> pd.DataFrame:
    """``policies``, or one row that says that nothing was recorded."""
    return or_nothing(policies(found), "scaffold")


def adapter_here(policies: pd.DataFrame) -> str:
    """The trained policy's share per scaffold and temperature."""
    rows = policies[policies["policy"] == "rlvr"]
    if rows.empty:
        return f"{NOTHING.capitalize()}."
    parts = [f"`{row['scaffold']}`, T = {row['temperature']:g}: {row['correct']}" for row in rows.to_dict("records")]
    return "After RLVR, evaluation tasks: " + "; ".join(parts) + "."


def adapter_verdict(policies: pd.DataFrame) -> str:
    """Where intervals of the trained policy lie clear of the others'."""
    if policies.empty:
        return "Not decided in this edition."
    clear: dict[str, list[str]] = {"base": [], "warm start": []}
    cells = policies.groupby(["scaffold", "temperature"])
    for (scaffold, temperature), rows in cells:
        found = rows.set_index("policy")
        for name in clear:
            if name in found.index and "rlvr" in found.index and found.at["rlvr", "low"] > found.at[name, "high"]:
                clear[name].append(f"`{scaffold}` at T = {temperature:g}")
    parts = []
    for name, where in clear.items():
        places = "in every case" if len(where) == len(cells) else f"for {listed(where)}" if where else "nowhere"
        parts.append(f"above {name if name != 'base' else 'the untrained policy'} {places}")
    return f"The interval of the trained policy lies {listed(parts)}."


def diverse_enough(policies: pd.DataFrame) -> str:
    """What is left to select from after training: the median task's distinct correct candidates."""
    rows = policies[policies["policy"] == "rlvr"]
    known = rows[[not isnan(value) for value in rows["distinct"]]] if len(rows) else rows
    if known.empty:
        return "How many distinct correct candidates it leaves to choose from was not recorded."
    least, most = known["distinct"].min(), known["distinct"].max()
    span = f"{least:g}" if least == most else f"{least:g} to {most:g}"
    return f"It leaves {span} distinct correct candidates to choose from on the median task."
