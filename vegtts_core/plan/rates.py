"""Rates by kind: seconds per token of sampling, updating and scoring, seconds per candidate of evaluation.

Each comes from observations: what a call, an update or an evaluation had to do, and the seconds that it took. A fit
over several is not negative, minimises relative errors, and is drawn lightly to equal shares where observations do not
tell kinds apart (a run whose calls are all alike). It knows numbers and names; it knows no runs, prompts or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field
from scipy.optimize import nnls

from vegtts_core.parameters import Parameters

#: Weight of the equal shares beside one observation's squared relative error.
SHRINKAGE = 0.02
#: A forward pass as a share of an update's seconds per token, where scoring was not observed (measured: 0.40 to 0.46).
FORWARD_SHARE = 0.43


class SamplingRates(Parameters):
    """Seconds per prompt token (computed once), per decoding step whatever its rows, and per completion token."""

    prompt_token: float = Field(ge=0)
    step: float = Field(ge=0)
    token: float = Field(ge=0)

    def seconds(self, prompt_tokens: float, steps: float, tokens: float) -> float:
        """Of one call or several."""
        return self.prompt_token * prompt_tokens + self.step * steps + self.token * tokens


class UpdateRates(Parameters):
    """Seconds per prompt token and per token of different completions, forward and backward."""

    prompt_token: float = Field(ge=0)
    token: float = Field(ge=0)

    def seconds(self, prompt_tokens: float, tokens: float) -> float:
        """Of one update or several."""
        return self.prompt_token * prompt_tokens + self.token * tokens


class CandidateRates(Parameters):
    """Seconds of evaluation in one scaffold.

    ``session``: beginning with a task (its inputs, answers and reference), whatever its candidates; ``wrong`` and
    ``correct``: per distinct candidate. None where no candidate of the kind was seen.
    """

    session: float = Field(default=0.0, ge=0)
    wrong: float | None = Field(default=None, ge=0)
    correct: float | None = Field(default=None, ge=0)

    def seconds(self, sessions: float, wrong: float, correct: float) -> float | None:
        """Of so many; None where a rate that it takes is not known."""
        if (wrong > 0 and self.wrong is None) or (correct > 0 and self.correct is None):
            return None
        return self.session * sessions + (self.wrong or 0.0) * wrong + (self.correct or 0.0) * correct


class Rates(Parameters):
    """What one kind of machine does per second, for one policy. What was not observed is None, and is not predicted.

    ``place``: facts of the machine (`vegtts_core.runs.machine.device`); ``sources``: runs or measurements behind it.
    ``evaluation``: by scaffold, with one worker on ``place``.
    """

    policy: str | None = None
    """None: whatever the policy, which is then the giver's word."""
    sources: tuple[str, ...] = ()
    place: dict[str, Any] = Field(default_factory=dict)
    sampling: SamplingRates | None = None
    update: UpdateRates | None = None
    score_token: float | None = Field(default=None, ge=0)
    """Seconds per token of a forward pass that scores."""
    evaluation: dict[str, CandidateRates] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    """The evaluator's settings that the rates of evaluation were observed under."""
    heard: float = Field(default=1.0, ge=0, le=1)
    """Share of groups that have a gradient; the others cost an update nothing."""
    rows: tuple[float, float] | None = None
    """The fewest and the most rows that sampling was observed with, in the mean over a call's steps."""
    shown_tokens: float | None = Field(default=None, ge=0)
    """Tokens that a teacher's context with feedback has beyond the prompt, per rollout."""

    @property
    def scoring(self) -> float | None:
        """Seconds per scored token: observed, or a share of an update's."""
        if self.score_token is not None or self.update is None:
            return self.score_token
        return FORWARD_SHARE * self.update.prompt_token


@dataclass(frozen=True)
class Judged:
    """One candidate's evaluation; ``first``: it began the session with its task."""

    seconds: float
    correct: bool
    first: bool


@dataclass
class Observations:
    """What was done, and the seconds it took, kind by kind; rows of (features..., seconds)."""

    sampling: list[tuple[float, float, float, float]] = field(default_factory=list)
    update: list[tuple[float, float, float]] = field(default_factory=list)
    scoring: list[tuple[float, float]] = field(default_factory=list)
    candidates: dict[str, list[Judged]] = field(default_factory=dict)
    """By scaffold: each distinct candidate."""
    groups: list[tuple[int, int]] = field(default_factory=list)
    """(groups, groups with a gradient) of each update."""
    taught: list[tuple[float, float, float]] = field(default_factory=list)
    """(rollouts, prompt tokens, context tokens) of each step with a full context."""

    def add(self, other: Observations) -> None:
        """Take another run's in."""
        for name in ("sampling", "update", "scoring", "groups", "taught"):
            getattr(self, name).extend(getattr(other, name))
        for scaffold, found in other.candidates.items():
            self.candidates.setdefault(scaffold, []).extend(found)

    def rates(self, **facts: Any) -> Rates:
        """The rates that fit them; ``facts``: policy, sources, place, settings."""
        sampling = fit([row[:-1] for row in self.sampling], [row[-1] for row in self.sampling])
        update = fit([row[:-1] for row in self.update], [row[-1] for row in self.update])
        scoring = fit([row[:-1] for row in self.scoring], [row[-1] for row in self.scoring])
        total = sum(whole for whole, _ in self.groups)
        rollouts = sum(row[0] for row in self.taught)
        return Rates(
            sampling=SamplingRates(**dict(zip(("prompt_token", "step", "token"), sampling, strict=True)))
            if sampling
            else None,
            update=UpdateRates(**dict(zip(("prompt_token", "token"), update, strict=True))) if update else None,
            score_token=scoring[0] if scoring else None,
            evaluation={name: _candidate_rates(found) for name, found in sorted(self.candidates.items()) if found},
            heard=sum(heard for _, heard in self.groups) / total if total else 1.0,
            rows=(min(rows), max(rows)) if (rows := [row[2] / row[1] for row in self.sampling if row[1]]) else None,
            shown_tokens=sum(row[2] - row[1] for row in self.taught) / rollouts if rollouts else None,
            **facts,
        )


def fit(features: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float] | None:
    """Seconds per unit of each feature, none negative; None without an observation that took time."""
    rows = [(row, took) for row, took in zip(features, seconds, strict=True) if took > 0 and any(row)]
    if not rows:
        return None
    done = np.array([row for row, _ in rows], float)
    relative = done / np.array([took for _, took in rows])[:, None]
    scale = relative.mean(0)  # a feature whose share is s costs s / scale per unit
    used = scale > 0
    shares = relative[:, used] / scale[used]
    ridge = np.sqrt(SHRINKAGE * len(rows)) * np.eye(int(used.sum()))
    left = np.vstack([shares, ridge])
    right = np.concatenate([np.ones(len(rows)), ridge.sum(1) / used.sum()])
    found = np.zeros(len(scale))
    found[used] = nnls(left, right)[0] / scale[used]
    return [float(each) for each in found]


def _candidate_rates(found: Sequence[Judged]) -> CandidateRates:
    """Means by kind of candidates that began no session; what the first of a session took beyond it is the session's.

    A kind that was only ever first has its sessions in its mean.
    """
    means: dict[bool, float] = {}
    beyond: list[float] = []
    for correct in (False, True):
        own = [each for each in found if each.correct is correct]
        later = [each.seconds for each in own if not each.first]
        if own:
            means[correct] = float(np.mean(later or [each.seconds for each in own]))
        if later:
            beyond += [each.seconds - means[correct] for each in own if each.first]
    session = max(0.0, float(np.mean(beyond))) if beyond else 0.0
    return CandidateRates(session=session, wrong=means.get(False), correct=means.get(True))
