"""The winner's curse: how much of a selected speedup is the luck of the clock that selected it.

The fastest of many equally fast candidates is the one whose timing erred most in its favour. Here a group's fastest
candidate is chosen by one measurement and read again on another: the other protocol's, the other half of its timed
pairs, or a new evaluation. The first two belong to one evaluation, minutes apart at most, so that what drifts slowly is
common to them and the curse is underestimated; the new evaluation, on fresh data in new processes, has no such fault.
It knows nothing of strategies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.statistics import Interval, mean_interval

#: Timed pairs that a candidate needs for its halves to be compared.
LEAST_PAIRS = 4

_NAMES = ["chosen_by", "read_on", "groups", "tasks", "candidates", "same", "chosen", "again", "shrinkage"]

COLUMNS = {
    "chosen_by": Column("chosen by"),
    "read_on": Column("read again on"),
    "groups": Column("groups", "d"),
    "candidates": Column("candidates", ".1f"),
    "same": Column("same winner", "d"),
    "chosen": Column("when chosen", "{:.3f}×"),
    "again": Column("read again", "{:.3f}×"),
    "shrinkage": Column("ratio [95%]", ".3f"),
}


def _halves(row: pd.Series) -> tuple[float, float]:
    """Median log-ratios of the pairs in even and in odd places; NaN where there are too few pairs."""
    reference, candidate = row["sound_reference_seconds"], row["sound_candidate_seconds"]
    if reference is None or candidate is None or min(len(reference), len(candidate)) < LEAST_PAIRS:
        return np.nan, np.nan
    pairs = min(len(reference), len(candidate))
    ratios = np.log(np.asarray(reference[:pairs], float)) - np.log(np.asarray(candidate[:pairs], float))
    return float(np.median(ratios[::2])), float(np.median(ratios[1::2]))


def readings(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per distinct candidate of a group that both protocols call correct and timed, with log speedups."""
    good = [a is True and b is True for a, b in zip(*_flags(samples), strict=True)]
    rows = samples[good]
    rows = rows[(rows["published_speedup"] > 0) & (rows["sound_speedup"] > 0)]
    rows = rows.drop_duplicates([*GROUP, "fingerprint"])
    halves = [_halves(row) for _, row in rows.iterrows()]
    again = {name: rows[f"retimed_{name}_speedup"].astype(float) for name in ("published", "sound")}
    return rows[GROUP].assign(
        fresh_published=np.log(again["published"]),
        fresh_sound=np.log(again["sound"]),
        published=np.log(rows["published_speedup"].astype(float)),
        sound=np.log(rows["sound_speedup"].astype(float)),
        even=[h[0] for h in halves],
        odd=[h[1] for h in halves],
    )


def _flags(samples: pd.DataFrame) -> tuple[list[bool], list[bool]]:
    columns = (samples["published_correct"], samples["sound_correct"])
    return tuple([value is True or value is np.True_ for value in column] for column in columns)  # type: ignore[return-value]


def _choose(by: str, on: str) -> Callable[[pd.DataFrame], tuple[float, float]]:
    def chosen(group: pd.DataFrame) -> tuple[float, float]:
        best = int(np.argmax(group[by].to_numpy()))
        return float(group[by].iloc[best]), float(group[on].iloc[best])

    return chosen


def _both_halves(group: pd.DataFrame) -> tuple[float, float]:
    one, other = _choose("even", "odd")(group), _choose("odd", "even")(group)
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def winners(samples: pd.DataFrame) -> pd.DataFrame:
    """What the fastest candidate of a group measures on the clock that chose it, and on another one.

    ``samples``: the run's table. Only groups with at least two distinct candidates that both protocols call correct.
    One row per way of choosing: ``chosen_by``, ``read_on``, ``groups``, ``tasks``, ``candidates`` (mean per group),
    ``same`` (groups in which both measurements choose the same), ``chosen`` and ``again`` (geometric mean
    speedups of the winners on the two measurements) and ``shrinkage``, an Interval of again / chosen (bootstrap over
    tasks and seeds): below 1 the choice was flattered by its clock. NaN where no group qualifies.
    """
    rows = readings(samples)
    ways = [
        ("published protocol", "sound protocol", ["published", "sound"], _choose("published", "sound")),
        ("sound protocol", "published protocol", ["published", "sound"], _choose("sound", "published")),
        ("half of the sound pairs", "the other half", ["even", "odd"], _both_halves),
        (
            "published protocol",
            "a new evaluation",
            ["published", "fresh_published"],
            _choose("published", "fresh_published"),
        ),
        ("sound protocol", "a new evaluation", ["sound", "fresh_sound"], _choose("sound", "fresh_sound")),
    ]
    table = []
    for chosen_by, read_on, needed, way in ways:
        one, other = needed
        usable = rows.dropna(subset=needed if one == "even" else [one])
        parts = [(key, part) for key, part in usable.groupby(GROUP) if len(part) > 1]
        values = np.array([way(part) for _, part in parts]).reshape(-1, 2)
        known = ~np.isnan(values[:, 1])  # the choice comes first: whoever is wrong on fresh data has no second reading
        parts, values = [part for part, read in zip(parts, known, strict=True) if read], values[known]
        tasks = [key[0] for key, _ in parts]  # type: ignore[index]
        chosen, change = mean_interval(values[:, 0], tasks), mean_interval(values[:, 1] - values[:, 0], tasks)
        ratio = [float(np.exp(v)) for v in (change.estimate, change.low, change.high)]
        table.append(
            (
                chosen_by,
                read_on,
                len(parts),
                len(set(tasks)),
                float(np.mean([len(part) for _, part in parts])) if parts else np.nan,
                sum(int(part[one].to_numpy().argmax() == np.nanargmax(part[other].to_numpy())) for _, part in parts),
                float(np.exp(chosen.estimate)),
                float(np.exp(chosen.estimate + change.estimate)),
                Interval(ratio[0], ratio[1], ratio[2], change.n),
            )
        )
    return pd.DataFrame(table, columns=_NAMES)


def winner_points(samples: pd.DataFrame) -> pd.DataFrame:
    """The groups behind the last two rows of ``winners``: columns task, seed, step, protocol, chosen, again."""
    rows, points = readings(samples), []
    for protocol in ("published", "sound"):
        usable = rows.dropna(subset=[protocol])
        for key, part in usable.groupby(GROUP):
            if len(part) > 1:
                chosen, again = np.exp(_choose(protocol, f"fresh_{protocol}")(part))
                if not np.isnan(again):
                    points.append((*key, protocol, float(chosen), float(again)))  # type: ignore[misc]
    return pd.DataFrame(points, columns=[*GROUP, "protocol", "chosen", "again"])
