"""From judged rollouts to the groups of an update: rewards, advantages, a teacher's view, replayed rollouts.

Here the parameters of the objective come together. It knows rows, prompts and the model (to score with, without
gradients); it knows nothing of files or optimisers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.training.advantages import advantages, signal
from vegtts_core.training.distillation_record import Taught, distillation_record
from vegtts_core.training.groups import Group
from vegtts_core.training.logprobs import completion_logprobs
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.replay import ReplayBuffer, Replayed, importance_weights
from vegtts_core.training.rewards import BaselineHistory, Outcome, compute_rewards
from vegtts_core.training.slots import Slot
from vegtts_core.training.teacher import choose_solution, teacher_prompt_for, teacher_tokens, token_advantages

#: Keeps the draw of replayed rollouts apart from other random numbers of the same seed and step.
_STREAM = 0x8E91

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """An update's groups, a sentence about those without a gradient (or empty), and facts for the step's record."""

    groups: list[Group]
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)


class BatchMaker:
    """Makes each step's groups. Its memory (baselines, replayed rollouts) is a function of the rows of earlier steps,

    so that a resumed run only has to `remember` them.
    """

    def __init__(self, parameters: AdaptationParameters, model: Any, tokenizer: Any) -> None:
        self.parameters = parameters
        self.model = model
        self.tokenizer = tokenizer
        self.history = BaselineHistory(parameters.rewards.window)
        self.buffer = ReplayBuffer(parameters.replay.size)

    def remember(self, step: int, slots: Sequence[Slot], rows: Sequence[Row]) -> list[float]:
        """Take a step's rows into memory; return their rewards."""
        outcomes = [Outcome(_group(row), row["reward"] > 0, row["reward"] or None) for row in rows]
        rewards = compute_rewards(outcomes, self.parameters.rewards, self.history, self.parameters.seed, step)
        self.buffer.add(
            [
                Replayed(
                    _group(row),
                    row["fingerprint"],
                    row["prompt_id"],
                    step,
                    tuple(row["token_ids"]),
                    tuple(self._old(row) or ()),
                    row["reward"],
                )
                for row in rows
                if row["reward"] > 0 and self.parameters.replay.count
            ]
        )
        return rewards

    def batch(self, step: int, slots: Sequence[Slot], rows: Sequence[Row]) -> Batch:
        """The step's groups, in the order of ``slots``; then `remember` has been done as well."""
        replayed = self._replayed(step, slots)
        rewards = self.remember(step, slots, rows)
        names = [_group(row) for row in rows]
        facts: dict[str, Any] = {"reward_mean": float(np.mean(rewards)), "reward_std": float(np.std(rewards))}
        if self.parameters.algorithm == "sdpo":
            taught = self._distilled(slots, rows)
            values = [item.advantages for item in taught]
            lengths = [len(value) for value in values]
            facts["teacher_tokens"] = teacher_tokens([item.context_tokens for item in taught], lengths)
            facts["distillation"] = distillation_record(taught, self.tokenizer.decode)
            heard = [bool(np.any(value)) for value in values]
            found = signal(np.array(heard, dtype=float), names)
        else:
            values = list(advantages(rewards, names, self.parameters.advantages))
            found = signal(np.array(values), names)
        groups = []
        for slot in slots:
            members = [index for index, name in enumerate(names) if name == slot.key]
            groups.append(self._group(slot, [rows[i] for i in members], [values[i] for i in members], replayed))
        facts["replayed"] = sum(len(found) for found in replayed.values())
        return Batch(groups, found.sentence, facts)

    def _group(
        self, slot: Slot, rows: Sequence[Row], values: Sequence[Any], replayed: Mapping[str, Sequence[Replayed]]
    ) -> Group:
        prompt = prompt_token_ids(self.tokenizer, slot.prompt)
        completions = [list(row["token_ids"]) for row in rows]
        old: Any = [self._old(row) for row in rows]
        earlier = replayed.get(slot.key, ())
        if not earlier:
            known = all(value is not None for value in old)
            per_rollout = np.ndim(values[0]) == 0
            return Group(prompt, completions, np.array(values) if per_rollout else values, old if known else None)
        # Replayed rollouts count as an addition to the group: its baseline stays that of the present policy, and each
        # is weighted by its own importance weights, so that the ratio in the loss is 1 for all.
        weight = np.array(values, dtype=float)
        best = float(np.max(weight)) if np.ndim(values[0]) == 0 else 1.0
        present = self._score(prompt, [found.token_ids for found in earlier])
        by_token = [np.full(len(ids), value) for ids, value in zip(completions, weight, strict=True)]
        replay = self.parameters.replay
        for found, now in zip(earlier, present, strict=True):
            completions.append(list(found.token_ids))
            by_token.append(best * importance_weights(now, found.sampling_logprobs, replay.clip, replay.level))
        return Group(prompt, completions, by_token)

    def _replayed(self, step: int, slots: Sequence[Slot]) -> dict[str, Sequence[Replayed]]:
        count = self.parameters.replay.count
        if not count:
            return {}
        random = np.random.default_rng([self.parameters.seed, step, _STREAM])
        return {slot.key: self.buffer.draw(slot.key, count, random) for slot in slots}

    def _distilled(self, slots: Sequence[Slot], rows: Sequence[Row]) -> list[Taught]:
        """Each row with its token advantages: the teacher is the present policy, shown more."""
        parameters, protocol = self.parameters.distillation, self.parameters.protocol
        found: dict[int, Taught] = {}
        for slot in slots:
            members = [index for index, row in enumerate(rows) if _group(row) == slot.key]
            own = [rows[index] for index in members]
            completions = [list(row["token_ids"]) for row in own]
            prompt = prompt_token_ids(self.tokenizer, slot.prompt)
            student = self._score(prompt, completions)
            contexts = [teacher_prompt_for(slot.prompt, own, place, parameters, protocol) for place in range(len(own))]
            by_context: dict[tuple[int, ...], list[int]] = {}
            for place, context in enumerate(contexts):
                by_context.setdefault(tuple(prompt_token_ids(self.tokenizer, context)), []).append(place)
            for ids, places in by_context.items():
                # Where the teacher is shown nothing more it is the student, whose scores rounding must not move.
                same = list(ids) == list(prompt)
                scored = [completions[place] for place in places]
                teacher = [student[place] for place in places] if same else self._score(list(ids), scored)
                for place, scores in zip(places, teacher, strict=True):
                    found[members[place]] = Taught(
                        own[place],
                        slot.key,
                        slot.prompt,
                        contexts[place],
                        len(prompt),
                        len(ids),
                        parameters.solution and choose_solution(own, place, protocol) is not None,
                        bool(own[place].get(f"{protocol}_correct")),
                        token_advantages(scores, student[place], parameters.beta, parameters.clip),
                    )
        return [found[index] for index in range(len(rows))]

    def _score(self, prompt: Sequence[int], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of each completion's tokens under the present policy, at the loss's temperature, nats."""
        with torch.no_grad():
            table = completion_logprobs(self.model, prompt, completions, self.parameters.temperature_of_loss)[0]
        return [row[: len(ids)] for row, ids in zip(table.tolist(), completions, strict=True)]

    def _old(self, row: Row) -> list[float] | None:
        """Log-probabilities under the policy that wrote it, at the loss's temperature, where they were recorded."""
        if self.parameters.temperature_of_loss == self.parameters.temperature:
            return list(row["sampling_logprobs"])
        return list(row["logprobs"]) if self.parameters.temperature_of_loss == 1 else None


def _group(row: Row) -> str:
    return f"{row['scaffold']}:{row['task']}"
