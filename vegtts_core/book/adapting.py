"""Chapter 3.3's tables: what was run, whose rollouts score which checkpoint, and which checkpoint is taken.

It arranges runs and published numbers. One step from rollouts to the moved policy is in ``adapting_step``, budgets in
``adapting_budget``, sentences in ``adapting_words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.runs import Run

NAN = float("nan")

PAPER = "paper, seed 42"

#: As the paper prints it (section 3.5).
ALGORITHM_1 = """\
Input: Tasks T, checkpoint theta_0, steps S, rollouts K
scores[0] = evaluate(theta_0, T)
for s = 1 to S:
    rollouts = sample(theta_{s-1}, T, K)
    theta_s = gradient_update(theta_{s-1}, rollouts)
    scores[s] = aggregate_fast_1(rollouts)  # Same rollouts, no extra budget
return theta_{argmax(scores)}
"""

#: Its lines that disagree: who writes the rollouts, and whose score they become.
OFF_BY_ONE = (4, 6)


def protocol_of(runs: Mapping[str, Run]) -> str:
    """The protocol that rewarded the runs; the first's, if they differ."""
    return str(next(iter(runs.values())).manifest["parameters"]["protocol"])


def pooled(runs: Mapping[str, Run]) -> pd.DataFrame:
    """The samples of all runs of a family, which differ in their seeds."""
    return pd.concat([run.samples for run in runs.values()], ignore_index=True)


def policy_text(run: Run) -> str:
    """The policy that a run started from: model, and adapter by its folder's name or digest."""
    parameters, policy = run.manifest["parameters"], run.manifest["policy"]
    name = "SmolLM2-135M-Instruct" if policy["name"] == "embedded" else Path(str(policy["name"])).name
    adapter = parameters["adapter"]
    if not adapter:
        return f"{name}, untrained"
    if adapter == "embedded":
        return f"{name} with the embedded adapter"
    return f"{name} with the adapter {str(policy.get('adapter_sha256') or Path(adapter).name)[:8]}"


def machine_text(run: Run) -> str:
    """Where candidates were measured: ``2 cores of AMD EPYC``."""
    machine = run.measured_on
    processor = f"{machine['cores']} cores of {machine['cpu']}"
    return f"one {machine['gpu']} beside {processor}" if "gpu" in machine else processor


def run_facts(runs: Mapping[str, Run]) -> dict[str, str]:
    """What a family of adaptation runs is, for sentences, by name."""
    run = next(iter(runs.values()))
    parameters, samples = run.manifest["parameters"], run.samples
    tasks = samples.drop_duplicates("task")["task_id"].sort_values()
    paper = published.table("5.3-trajectory")["rollouts"]
    return {
        "policy": policy_text(run),
        "machine": machine_text(run),
        "scaffold": " and ".join(parameters["scaffolds"]),
        "seeds": ", ".join(str(r.manifest["parameters"]["seed"]) for r in runs.values()),
        "runs": "one run" if len(runs) == 1 else f"{len(runs)} runs that differ in the seed",
        "tasks": str(len(tasks)),
        "task-ids": ", ".join(str(task) for task in tasks),
        "k": str(int(samples["sample"].max()) + 1),
        "updates": str(int(samples["step"].max())),
        "rollouts": f"{len(pooled(runs)):,}",
        "rollouts-each": f"{len(samples):,}",
        "temperature": number(parameters["temperature"]),
        "rate": number(parameters["update"]["learning_rate"], ".0e"),
        "protocol": str(parameters["protocol"]),
        "paper-rollouts": f"{int(paper.iloc[-1]):,}",
        "smaller": smaller(run),
    }


def smaller(run: Run) -> str:
    """How one run compares in size with the paper's trajectory, as a sentence."""
    paper = published.table("5.3-trajectory")
    theirs, ours = int(paper["rollouts"].iloc[-1]), len(run.samples)
    size = "as many rollouts as" if ours == theirs else "fewer rollouts than" if ours < theirs else "more rollouts than"
    return (
        f"A run here has {ours:,} rollouts over {int(run.samples['step'].max())} updates, {size} the {theirs:,} over "
        f"{len(paper) - 1} of the paper's trajectory."
    )


def setting(run: Run) -> pd.DataFrame:
    """What a run was made with: columns parameter, published, here."""
    p = run.manifest["parameters"]
    paper, trajectory = published.table("A")["value"], published.table("5.3-trajectory")
    tasks, k = run.samples["task"].nunique(), int(run.samples["sample"].max()) + 1
    per_step = int(paper["ttt.tasks_per_step"]) * int(paper["ttt.k"])
    steps, divided = p["advantages"], {"std": "its standard deviation", "batch_std": "the batch's standard deviation"}
    over = divided.get(steps["scale"])
    rows = [
        ("policy", f"{paper['rlvr.model']}, {paper['evaluation.checkpoint']}", policy_text(run)),
        ("scaffold", "body of `forward` (published code)", " and ".join(f"`{name}`" for name in p["scaffolds"])),
        ("tasks per step", paper["ttt.tasks_per_step"], str(tasks)),
        ("rollouts per task and step, K", paper["ttt.k"], str(k)),
        ("rollouts per step", str(per_step), str(tasks * k)),
        ("updates", str(len(trajectory) - 1), str(int(run.samples["step"].max()))),
        ("learning rate", paper["ttt.learning_rate"], number(p["update"]["learning_rate"], ".0e")),
        ("LoRA rank", paper["rlvr.lora_rank"], str(p["lora"]["rank"])),
        ("temperature", published.table("4.1").at["temperature", "batch_ttt"], number(p["temperature"])),
        ("reward of a correct rollout", "speedup, relative to a baseline per task", _reward(p["rewards"])),
        (
            "advantage",
            "over the whole batch (published code)",
            f"{steps['objective']} over the {steps['scope']}" + (f", divided by {over}" if over else ""),
        ),
        ("judged under", "published protocol", f"{p['protocol']} protocol"),
    ]
    return pd.DataFrame(rows, columns=["parameter", "published", "here"])


SETTING_COLUMNS = {
    "parameter": Column("parameter"),
    "published": Column(PUBLISHED),
    "here": Column(HERE),
}


def _reward(rewards: Mapping[str, object]) -> str:
    if rewards["threshold"] is not None:
        return f"1 if its speedup exceeds {rewards['threshold']}"
    text = "speedup"
    if rewards["measure"] == "normalised":
        text += f" over the median of the task's last {rewards['window']} correct speedups"
    return f"log(1 + {text})" if rewards["transform"] == "log" else text


# -- whose rollouts are whose ------------------------------------------------------------------------------------


def bookkeeping(updates: int) -> pd.DataFrame:
    """Which checkpoint's score the rollouts of each become: as printed in algorithm 1, and here.

    Columns writer, printed, here, budget (steps' worth of rollouts up to then). A trajectory of ``updates`` updates.
    """
    rows = []
    for step in range(updates + 1):
        printed = [f"θ~{step + 1}~"] if step < updates else []
        if step == 0:
            printed.insert(0, "θ~0~")
        rows.append((f"θ~{step}~", " and ".join(printed) or "not sampled", f"θ~{step}~", step + 1))
    return pd.DataFrame(rows, columns=["writer", "printed", "here", "budget"])


BOOK_COLUMNS = {
    "writer": Column("rollouts written by"),
    "printed": Column("score of (as printed)"),
    "here": Column("score of (here)"),
    "budget": Column("steps paid for", "d"),
}


def scores_of(runs: Mapping[str, Run]) -> dict[str, pd.Series]:
    """Aggregate fast_1 by step: of the paper's trajectory, then of each run by ``seed 42``; NaN-free."""
    paper = published.table("5.3-trajectory")["fast_1"]
    found = {PAPER: pd.Series(paper.to_numpy(dtype=float), index=[int(step) for step in paper.index])}
    for run in runs.values():
        seeds = metrics.trajectory(run.samples, run.manifest["parameters"]["protocol"], resamples=1).seeds
        for seed, part in seeds.groupby("seed"):
            found[f"seed {seed}"] = part.set_index("step")["sample_fast_p"]
    return found


def as_printed(scores: pd.Series) -> tuple[int, float, float]:
    """What algorithm 1 returns if it is followed to the letter: (step, its filed score, its own score).

    ``scores``: fast_1 of the rollouts that checkpoint s wrote, by s = 0..S. The letter files them under s + 1, and has
    no rollouts of checkpoint S; here that score is known, which is how ``own`` can be told.
    """
    ordered = scores.sort_index()
    filed = [float(ordered.iloc[0]), *(float(score) for score in ordered.iloc[:-1])]
    step = int(metrics.checkpoints.first_best(filed))
    return int(ordered.index[step]), filed[step], float(ordered.iloc[step])


def misfiled(scores: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Per trajectory the checkpoint that each reading of algorithm 1 returns.

    Columns source, step, score (scores belong to who wrote the rollouts), printed_step, filed, own, lost (own - score).
    """
    rows = []
    for name, series in scores.items():
        ordered = series.sort_index()
        at = int(metrics.checkpoints.first_best(ordered))
        step, filed, own = as_printed(ordered)
        rows.append((name, int(ordered.index[at]), float(ordered.iloc[at]), step, filed, own, own - ordered.iloc[at]))
    names = ["source", "step", "score", "printed_step", "filed", "own", "lost"]
    return pd.DataFrame(rows, columns=names)


MISFILED_COLUMNS = {
    "source": Column("trajectory"),
    "step": Column("step", "d", group="score of the writer"),
    "score": Column("fast_1", ".1%", group="score of the writer"),
    "printed_step": Column("step", "d", group="as printed"),
    "filed": Column("filed fast_1", ".1%", group="as printed"),
    "own": Column("its own fast_1", ".1%", group="as printed"),
}


# -- which checkpoint is taken -----------------------------------------------------------------------------------


def paper_isolated() -> dict[str, pd.Series]:
    """fast_1 by step of the paper's isolated runs, steps that it does not give left out."""
    table = published.table("5.3-isolated")
    steps = [name for name in table.columns if name.startswith("step_")]
    found = {}
    for task, row in table.iterrows():
        values = pd.Series([float(row[name]) for name in steps], index=[int(name[5:]) for name in steps])
        found[f"paper, isolated task {task}"] = values.dropna()
    return found


def stops(scores: Mapping[str, pd.Series], patiences: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """Early stopping beside the argmax over the whole trajectory. One row per trajectory.

    Columns source, best, best_score, flat (all steps score alike), and per patience P: ``returned_P``, ``stopped_P``
    (the last step paid for),
    ``lost_P`` (best score - returned score; 0 where it is the argmax or equals it), ``saved_P`` (steps not paid for).
    """
    rows = []
    for name, series in scores.items():
        ordered = series.sort_index()
        at = int(metrics.checkpoints.first_best(ordered))
        row: dict[str, object] = {"source": name, "best": int(ordered.index[at]), "best_score": float(ordered.iloc[at])}
        row["flat"] = bool(ordered.max() - ordered.min() < 1e-9)
        for patience in patiences:
            found = metrics.early_stopping(ordered, patience)
            row |= {
                f"returned_{patience}": found.step,
                f"stopped_{patience}": found.stopped,
                f"lost_{patience}": max(0.0, round(float(ordered.iloc[at]) - found.score, 9)),
                f"saved_{patience}": int((ordered.index > found.stopped).sum()),
            }
        rows.append(row)
    return pd.DataFrame(rows)


STOP_COLUMNS = {
    "source": Column("trajectory"),
    "best": Column("step", "d", group="argmax"),
    "best_score": Column("fast_1", ".1%", group="argmax"),
}
for _p in (1, 2):
    STOP_COLUMNS |= {
        f"returned_{_p}": Column("returns", "d", group=f"P = {_p}"),
        f"stopped_{_p}": Column("stops at", "d", group=f"P = {_p}"),
        f"lost_{_p}": Column("lost", ".1%", group=f"P = {_p}"),
    }
