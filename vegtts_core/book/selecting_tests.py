"""Tests, correlations and quartiles of chapter 5.2, beside what can be recomputed from the paper's own text.

It arranges what ``statistics`` computes. It knows nothing of how samples were evaluated and words no verdicts.

Signs: rho(log-probability, speedup) < 0 is rho(surprisal, speedup) > 0 and means that surprising samples are faster.
Every table here gives rho(surprisal, speedup), so that positive speaks for the paper's claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.selecting import PAPER, PAPER_PAIRS, PROTOCOLS, SIDES
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.selection import CONFIDENCE_GUIDED, SURPRISAL_GUIDED, Comparison, Strategy
from vegtts_core.statistics import (
    Alternative,
    Interval,
    Test,
    cohens_h,
    length_control,
    sign_test,
    spearman,
    surprisal_quartiles,
    wilcoxon_log_ratio,
)

NAN = float("nan")

PROBE = "5.3b-probe/all-step-0/rho"


def signed_rank_p(statistic: float, n: int) -> float:
    """Exact two-sided p of Wilcoxon's signed-rank statistic (the smaller rank sum) for n pairs without ties."""
    if n < 1 or not np.isfinite(statistic):
        return NAN
    counts = np.ones(1)
    for rank in range(1, n + 1):
        counts = np.concatenate([counts, np.zeros(rank)]) + np.concatenate([np.zeros(rank), counts])
    below = counts[: int(np.floor(statistic)) + 1].sum()
    return float(min(1.0, 2 * below / 2.0**n))


def naive_rho(rho: float, n: int, controls: int = 0) -> tuple[float, Interval]:
    """(two-sided p, Fisher's 95% interval) of a Spearman rho as if its n samples were independent."""
    free = n - 2 - controls
    if free < 2 or not abs(rho) < 1:
        return NAN, Interval(rho, NAN, NAN, n)
    t = rho * np.sqrt(free / (1 - rho * rho))
    half = 1.96 / np.sqrt(n - 3 - controls)
    low, high = np.tanh([np.arctanh(rho) - half, np.arctanh(rho) + half])
    return float(2 * stats.t.sf(abs(t), free)), Interval(rho, float(low), float(high), n)


@dataclass(frozen=True)
class PaperStrength:
    """What the paper's section 5.2 allows to recompute: its effect, its tests, what they could find."""

    effect: Interval
    wilcoxon_p: float
    wilcoxon_smallest: float
    sign: Test
    sign_one_sided: Test
    smallest_over_tasks: float


def paper_strength() -> PaperStrength:
    """Cohen's h from the two printed shares, Wilcoxon's p from W and n, the sign test from its discordant pairs."""
    table = published.table("5.2-strength")
    shares = [float(published.value(f"5.3/{s.name}/fast_1")) for s in (SURPRISAL_GUIDED, CONFIDENCE_GUIDED)]
    pairs, wins = int(table.at["wilcoxon", "n"]), int(table.at["sign-one-sided", "n"])
    first, second = np.ones(wins), np.zeros(wins)
    return PaperStrength(
        effect=cohens_h(shares[0], shares[1], PAPER_PAIRS, PAPER_PAIRS),
        wilcoxon_p=signed_rank_p(float(table.at["wilcoxon", "statistic"]), pairs),
        wilcoxon_smallest=2 * 0.5**pairs,
        sign=sign_test(first, second),
        sign_one_sided=sign_test(first, second, Alternative.GREATER),
        smallest_over_tasks=2 * 0.5**5,
    )


def over_tasks(outcomes: pd.DataFrame, first: Strategy, second: Strategy) -> tuple[Test, Test]:
    """(Wilcoxon on log speedups, two-sided sign test on success) of two strategies' means over each task's seeds.

    One pair per task: no independence of seeds is assumed.
    """
    means = outcomes.groupby(["strategy", "task"])[["success", "log_speedup"]].mean()
    names = means.index.get_level_values("strategy")
    if not {first.name, second.name} <= set(names):
        return wilcoxon_log_ratio([], []), sign_test([], [])
    a, b = means.loc[first.name].align(means.loc[second.name], join="inner", axis=0)
    wilcoxon = wilcoxon_log_ratio(np.exp(a["log_speedup"]), np.exp(b["log_speedup"]))
    return wilcoxon, sign_test(a["success"], b["success"])


def _p(value: float) -> str:
    if np.isnan(value):
        return number(value)
    return "<\u00a00.001" if value < 0.001 else number(value, ".3g")


def _test(test: Test) -> str:
    if test.n == 0:
        return f"n = 0 ({test.zeros} ties)"
    return f"{_p(test.p_value)} (n = {test.n}, least {_p(test.smallest_p)})"


def rounded(value: Interval) -> Interval:
    """To two places, so that rounding leaves no minus before a 0."""
    estimate, low, high = (round(v, 2) + 0.0 for v in (value.estimate, value.low, value.high))
    return Interval(estimate, low, high, value.n)


def strength(here: Mapping[str, tuple[pd.DataFrame, Comparison]]) -> pd.DataFrame:
    """Surprisal- against confidence-guided: columns test, printed, recomputed, and one per protocol, as text.

    ``here``: per protocol the outcomes of ``evaluate_strategies`` and their ``compare_strategies``. A p-value comes
    with the number of differing pairs and the least p that so many pairs can give.
    """
    table, paper = published.table("5.2-strength"), paper_strength()
    shares = [float(published.value(f"5.3/{s.name}/fast_1")) for s in (SURPRISAL_GUIDED, CONFIDENCE_GUIDED)]
    n, discordant = int(table.at["wilcoxon", "n"]), int(table.at["sign-one-sided", "n"])
    frame = pd.DataFrame(
        [
            ("difference of success", number(shares[0] - shares[1], ".2f"), None),
            ("Cohen's h", number(float(table.at["cohens-h", "statistic"]), ".2f"), number(paper.effect, ".2f")),
            (
                "Wilcoxon, pairs",
                f"{_p(float(table.at['wilcoxon', 'p_value']))} (n = {n})",
                f"{_p(paper.wilcoxon_p)} (n = {n}, least {_p(paper.wilcoxon_smallest)})",
            ),
            (
                "sign, one-sided, pairs",
                f"{_p(float(table.at['sign-one-sided', 'p_value']))} (n = {discordant})",
                _test(paper.sign_one_sided),
            ),
            ("sign, two-sided, pairs", None, _test(paper.sign)),
            ("Wilcoxon, tasks", None, f"at least {_p(paper.smallest_over_tasks)} (n = 5)"),
            ("sign, two-sided, tasks", None, f"at least {_p(paper.smallest_over_tasks)} (n ≤ 5)"),
        ],
        columns=["test", "printed", "recomputed"],
    )
    for protocol, (outcomes, comparison) in here.items():
        tests = over_tasks(outcomes, SURPRISAL_GUIDED, CONFIDENCE_GUIDED)
        frame[protocol] = [
            number(rounded(comparison.difference), ".2f"),
            number(rounded(comparison.effect), ".2f"),
            *map(_test, (comparison.wilcoxon, comparison.sign_one_sided, comparison.sign, *tests)),
        ]
    return frame


STRENGTH_COLUMNS = {
    "test": Column("test"),
    "printed": Column("printed", group=PUBLISHED),
    "recomputed": Column("recomputed", group=PUBLISHED),
    "published": Column("published protocol", group=HERE),
    "sound": Column("sound protocol", group=HERE),
}

_ANALYSES = {
    "log-probability and speedup": ("surprisal and speedup", "raw", -1),
    "log-probability and speedup, controlling for length": ("the same, length held fixed", "partial", -1),
    "length and speedup": ("length and speedup", "length", 1),
    "log-probability and speedup, within task": ("surprisal and speedup, within task", None, -1),
}


def correlations(
    view: pd.DataFrame, signal: str = "mean_logprob", distinct: bool = False, resamples: int = 1000
) -> pd.DataFrame:
    """``length_control`` with log-probability turned into surprisal, in its columns.

    rho > 0 in the rows on surprisal means that surprising samples are faster.
    """
    found = length_control(view, signal, distinct, resamples)
    found["analysis"] = found["analysis"].map({key: name for key, (name, _, _) in _ANALYSES.items()})
    for place, (_, _, sign) in enumerate(_ANALYSES.values()):
        if sign < 0:
            rho, low, high = found.loc[place, ["rho", "low", "high"]].astype(float)
            found.loc[place, ["rho", "low", "high"]] = [-rho, -high, -low]
    return found


def length_table(here: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The length-controlled analysis: per analysis a row of the paper (its sign turned) and one of each protocol.

    ``here``: ``correlations`` per protocol. Columns: analysis, side, rho (an Interval; the paper's is Fisher's, as if
    samples were independent, ours from the bootstrap over tasks), n, naive and within (p-values).
    """
    paper = published.table("5.2-length")
    rows = []
    for place, (name, key, sign) in enumerate(_ANALYSES.values()):
        if key:
            n = int(paper.at[key, "n"])
            p, interval = naive_rho(sign * float(paper.at[key, "rho"]), n, controls=int(key == "partial"))
            rows.append((name, SIDES[PAPER], interval, n, p, NAN))
        for protocol, table in here.items():
            ours = table.iloc[place]
            rho = Interval(float(ours["rho"]), float(ours["low"]), float(ours["high"]), int(ours["n"]))
            rows.append((name, SIDES[protocol], rho, rho.n, float(ours["p_naive"]), float(ours["p_within_task"])))
    return pd.DataFrame(rows, columns=["analysis", "side", "rho", "n", "naive", "within"])


LENGTH_COLUMNS = {
    "analysis": Column("analysis"),
    "side": Column("source"),
    "rho": Column("ρ [95%]", ".3f"),
    "n": Column("samples", "d"),
    "naive": Column("p, naive", _p),
    "within": Column("p, within task", _p),
}


SIGN_COLUMNS = {
    "samples": Column("samples"),
    "paper": Column("ρ", ".3f", group=PUBLISHED),
    "place": Column("where", group=PUBLISHED),
    "published": Column("published protocol", ".2f", group=HERE),
    "sound": Column("sound protocol", ".2f", group=HERE),
}


def signs(views: Mapping[str, pd.DataFrame], resamples: int = 500) -> pd.DataFrame:
    """rho(surprisal, speedup) over correct samples, and over all with a failure's speedup set to 0.

    Columns: samples, paper (turned to surprisal), place (where the paper prints it), and an Interval per protocol.
    """
    rows: list[dict[str, object]] = [
        {"samples": "correct ones", "paper": -float(published.value("5.2-length/raw/rho")), "place": "section 5.2"},
        {
            "samples": "all, failures as 0",
            "paper": float(published.value("5.3b-probe/all-step-0/rho")),
            "place": "5.3b",
        },
    ]
    for protocol, view in views.items():
        usable = view[view["correct"] & view["speedup"].notna()]
        for row, part in zip(rows, (usable, view), strict=True):
            found = spearman(part["surprisal"], part["speedup"].fillna(0.0), part["task"], resamples=resamples)
            row[protocol] = Interval(found.rho, found.low, found.high, found.n)
    return pd.DataFrame(rows)


def quartiles(view: pd.DataFrame, within_task: bool) -> pd.DataFrame:
    """``surprisal_quartiles`` with its bounds as one value ``fast_interval``."""
    found = surprisal_quartiles(view, within_task=within_task)
    values = zip(found["fast"], found["low"], found["high"], strict=True)
    return found.assign(fast_interval=[Interval(float(x), float(a), float(b), 0) for x, a, b in values])


def quartile_table(pooled: Mapping[str, pd.DataFrame], within: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's quartiles, ours pooled under each protocol, and ours within tasks; one row per quartile."""
    frame = published.table("5.2-quartiles").add_prefix("paper.").reset_index()
    for kind, tables in (("pooled", pooled), ("within", within)):
        for protocol, table in tables.items():
            for column in ("fast_interval", "geometric_speedup", "mean_tokens", "n"):
                frame[f"{protocol}.{kind}.{column}"] = list(table[column])
    return frame


QUARTILE_COLUMNS = {
    "quartile": Column("quartile"),
    "paper.fast_1": Column("fast", ".0%", group=PUBLISHED),
    "paper.mean_tokens": Column("tokens", ".0f", group=PUBLISHED),
}
for _protocol in PROTOCOLS:
    _group = f"{HERE}, {_protocol} protocol"
    QUARTILE_COLUMNS[f"{_protocol}.pooled.fast_interval"] = Column("fast, pooled", ".0%", group=_group)
    QUARTILE_COLUMNS[f"{_protocol}.within.fast_interval"] = Column("fast, within task", ".0%", group=_group)
    QUARTILE_COLUMNS[f"{_protocol}.pooled.mean_tokens"] = Column("tokens", ".1f", group=_group)


def paper_halves() -> Interval:
    """The paper's more surprising half minus the other, in fast_1, with a 95% interval as if 550 samples were
    independent.
    """
    shares = published.table("5.2-halves")["fast_1"].astype(float)
    each = float(published.value("5.2-length/raw/n")) / 2
    gap = float(shares["high-surprisal"] - shares["low-surprisal"])
    half = 1.96 * float(np.sqrt((shares * (1 - shares) / each).sum()))
    return Interval(gap, gap - half, gap + half, int(2 * each))
