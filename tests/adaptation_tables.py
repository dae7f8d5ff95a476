"""Samples tables of adaptation runs for tests: so many fast rollouts per task and step."""

from made_tables import sample, table

from vegtts_core.book import published

#: Rollouts per task and step behind section 5.3.
PAPER_K = 32
PAPER_TASKS = ("4", "5", "12", "14", "15")


def adapted(hits, k=4, seeds=(42,), wrong=0):
    """``hits[step][task]`` of ``k`` rollouts are fast (2x) for every seed, others slow, the last ``wrong`` wrong."""
    rows = []
    for seed in seeds:
        for step, counts in enumerate(hits):
            for task, count in enumerate(counts):
                for i in range(k):
                    kind = "fast" if i < count else "wrong" if i >= k - wrong else "slow"
                    rows.append(
                        sample(
                            task=f"level1/{task}",
                            task_id=task,
                            seed=seed,
                            step=step,
                            sample=i,
                            speedup=2.0 if kind == "fast" else 0.5,
                            correct=kind != "wrong",
                            fingerprint=f"{kind}{i}",
                            reward={"fast": 2.0, "slow": 0.5, "wrong": 0.0}[kind],
                        )
                    )
    return table(rows)


def papers_counts():
    """Fast rollouts of 32 behind the printed per cents of section 5.3, ``[step][task]``."""
    printed = published.table("5.3-trajectory")
    return [[round(printed.at[str(s), f"task_{t}"] * PAPER_K) for t in PAPER_TASKS] for s in range(len(printed))]
