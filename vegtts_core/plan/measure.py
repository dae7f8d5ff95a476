"""A short measurement of this machine: how fast a policy samples, learns and scores here, and candidates are evaluated.

It does what the run would do, on the run's own prompts, in small: a few calls of the sampler of different shapes, some
rollouts as the run asks for them, the evaluation of what they became, three updates and one scoring pass. The result is
kept in the user's cache with the machine's facts; runs that ask for the same things share it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.plan.counts import Work, work_of
from vegtts_core.plan.families import families
from vegtts_core.plan.library import Library, evaluator_settings, measurement_path, write_measurement
from vegtts_core.plan.model_facts import local_folder
from vegtts_core.plan.observed import settings_of
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.plan.rates import Judged, Observations, Rates
from vegtts_core.policy.load import load_policy, load_trainable
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import Completion, SamplingParameters
from vegtts_core.scaffolds import Candidate
from vegtts_core.training.groups import Group, StepReport
from vegtts_core.training.logprobs import completion_logprobs
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.slots import Slot, build_slots
from vegtts_core.training.update import train
from vegtts_core.training.warm_start_parameters import WarmStartParameters

#: Prompts, rollouts of each, and candidates that a measurement looks at, at most.
PROMPTS, ROLLOUTS, CANDIDATES = 5, 16, 40
#: Shapes of the calls that tell rates of sampling apart: (prompts, completions of each, tokens at most).
SHAPES = ((1, 1, 1), (1, 1, 24), (1, 32, 12), (3, 8, 12))
SEED = 20


def measure_all(params: str | Path, section: str | None, library: Library, console: Console) -> None:
    """Measure for every run of ``params`` (or a section), each kind once. Raises UserError for an absent policy."""
    done: set[Path] = set()
    for family in families(params, section):
        given: Any = family.after if family.after is not None else family.parameters
        if local_folder(given.policy) is None:
            raise UserError(f"{given.policy} is not on this machine, so it cannot be measured: give rates instead.")
        work = work_of(family, prompt_counter(given.policy))
        place = library.place(work)
        path = measurement_path(work, place)
        if path in done:
            continue
        console.print(f"Measuring for {family.section} …", highlight=False)
        rates, samples, length = _Measurement(work, given, place, console).made()
        write_measurement(work, place, rates, samples, length)
        done.add(path)


@dataclass
class _Measurement:
    work: Work
    given: Any
    place: dict[str, Any]
    console: Console

    def made(self) -> tuple[Rates, list[dict[str, Any]], int]:
        """The rates, the rollouts behind them (as `write_measurement` keeps them), and their longest allowed length."""
        given, work = self.given, self.work
        scaffolds = getattr(given, "scaffolds", None) or (given.scaffold,)
        slots = _spread(build_slots(given.tasks, scaffolds, given.size, given.examples, given.judged_on, skip=True))
        found = Observations()
        learns = isinstance(work.family.parameters, AdaptationParameters | WarmStartParameters)
        if learns:
            adapter = getattr(given, "adapter", None)
            model, tokenizer, identity = load_trainable(given.policy, adapter, given.lora, given.device, SEED)
            policy: Any = TransformersPolicy(model, tokenizer, identity)
        else:
            model = tokenizer = None
            policy = load_policy(given.policy, self._start(), work.dtype, given.device)
        self._sample(policy, slots[:1], 1, 1, Observations())  # what comes once is not the run's pace
        for prompts, k, new in SHAPES:
            self._sample(policy, slots[:prompts], k, new, found)
        # As the run itself asks, and twice: this shape counts most, and tells how the policy writes.
        k = min(ROLLOUTS, max(2, given.k))
        written = {seed: self._sample(policy, slots, k, work.max_new_tokens, found, seed) for seed in (SEED, SEED + 1)}
        groups = written[SEED]
        rows = self._evaluate(slots, written, found)
        if learns:
            self._update(model, tokenizer, slots, groups, found)
        if learns or work.scored:
            self._score(policy, slots, groups, found)
        settings = settings_of(evaluator_settings(work).model_dump(mode="json"))
        source = f"measured here ({self.place.get('cpu')}, {self.place.get('cores')} cores)"
        place = self.place | {"threads": torch.get_num_threads()}
        rates = found.rates(policy=work.policy, sources=(source,), place=place, settings=settings)
        return rates, rows, work.max_new_tokens

    def _start(self) -> str | None:
        """The adapter to sample with; one that a run has yet to make has the speed of none."""
        adapter = self.work.adapter
        return adapter if adapter == "embedded" or (adapter and Path(adapter).is_dir()) else None

    def _sample(
        self, policy: Any, slots: Sequence[Slot], k: int, new: int, found: Observations, seed: int = SEED
    ) -> list[list[Completion]]:
        prompts = [slot.prompt for slot in slots]
        started = time.perf_counter()
        groups = policy.sample(prompts, k, SamplingParameters(self.work.temperature, new), seed)
        seconds = time.perf_counter() - started
        lengths = [len(each.token_ids) for group in groups for each in group]
        # k and prompts are few enough for one batch.
        row = (float(sum(policy.prompt_tokens(prompts))), float(max(lengths)), float(sum(lengths)), seconds)
        found.sampling.append(row)
        self.console.print(f"  {len(lengths)} completions, {sum(lengths)} tokens: {seconds:.1f} s", highlight=False)
        return groups

    def _evaluate(
        self, slots: Sequence[Slot], written: dict[int, list[list[Completion]]], found: Observations
    ) -> list[dict[str, Any]]:
        """Rows of what was sampled; evaluates their distinct candidates, or so many drawn from them."""
        rows: list[dict[str, Any]] = []
        candidates: dict[tuple[str, str], Candidate] = {}
        for seed, groups in written.items():
            for slot, group in zip(slots, groups, strict=True):
                scaffold = scaffold_for(slot.scaffold, self.given.judged_on)
                for completion in group:
                    parsed = scaffold.parse(slot.task, completion.text)
                    mark = parsed.fingerprint if isinstance(parsed, Candidate) else None
                    if isinstance(parsed, Candidate):
                        candidates.setdefault((slot.task.key, parsed.fingerprint), parsed)
                    row = {"task": slot.task.key, "scaffold": slot.scaffold, "seed": seed, "step": 0}
                    row |= {"tokens": len(completion.token_ids), "token_ids": list(completion.token_ids)}
                    rows.append(row | {"logprobs": list(completion.logprobs), "fingerprint": mark})
        correct: dict[tuple[str, str], bool] = {}
        if candidates and not self.work.scored:
            correct = self._judge(slots, list(candidates.values()), found)
        return [row | {"measured_correct": correct.get((row["task"], str(row["fingerprint"])))} for row in rows]

    def _judge(
        self, slots: Sequence[Slot], candidates: Sequence[Candidate], found: Observations
    ) -> dict[tuple[str, str], bool]:
        """Which of them are correct. Drawn, not the first: what is written often is more often correct, and slower."""
        some = np.random.default_rng(SEED).permutation(len(candidates))[:CANDIDATES]
        chosen = sorted((candidates[place] for place in some), key=lambda candidate: candidate.task_key)
        correct: dict[tuple[str, str], bool] = {}
        tasks = {slot.task.key: slot.task for slot in slots}
        settings = evaluator_settings(self.work).model_copy(update={"workers": 1})
        with evaluator_for(chosen[0].scaffold, self.given.judged_on, tasks.values(), settings) as evaluator:
            started = time.perf_counter()

            def keep(index: int, verdict: Any) -> None:
                nonlocal started
                now = time.perf_counter()
                candidate, right = chosen[index], verdict.error is None
                first = not index or chosen[index - 1].task_key != candidate.task_key
                found.candidates.setdefault(candidate.scaffold, []).append(Judged(now - started, right, first))
                correct[candidate.task_key, candidate.fingerprint] = right
                started = now

            evaluator.evaluate(chosen, on_verdict=keep)
        self.console.print(f"  {len(chosen)} of {len(candidates)} candidates evaluated", highlight=False)
        return correct

    def _update(
        self,
        model: Any,
        tokenizer: Any,
        slots: Sequence[Slot],
        groups: Sequence[Sequence[Completion]],
        found: Observations,
    ) -> None:
        """Three updates of one group each; the first pays for what comes once, and is left out."""
        chosen = [_group(tokenizer, slots[place % len(slots)], groups[place % len(slots)]) for place in range(3)]
        chosen[1] = Group(chosen[1].prompt, chosen[1].completions[:2], np.array([1.0, -1.0]))
        started = time.perf_counter()
        seconds: list[float] = []

        def rollouts(step: int) -> list[Group]:
            nonlocal started
            started = time.perf_counter()
            return [chosen[step]]

        def keep(report: StepReport) -> None:
            seconds.append(time.perf_counter() - started)

        parameters = self.given.update.model_copy(update={"learning_rate": 1e-9})
        with tempfile.TemporaryDirectory() as folder:
            train(
                model,
                tokenizer,
                rollouts,
                Path(folder),
                parameters,
                steps=3,
                groups=1,
                temperature=self.work.temperature,
                seed=SEED,
                on_step=keep,
            )
        for group, took in list(zip(chosen, seconds, strict=True))[1:]:
            texts = {tuple(ids) for ids in group.completions}
            found.update.append((float(len(group.prompt)), float(sum(map(len, texts))), took))
        self.console.print(f"  updates of one group: {', '.join(f'{each:.1f}' for each in seconds)} s", highlight=False)

    def _score(
        self, policy: Any, slots: Sequence[Slot], groups: Sequence[Sequence[Completion]], found: Observations
    ) -> None:
        group = _group(policy.tokenizer, slots[0], groups[0])
        texts = sorted({tuple(ids) for ids in group.completions if ids})
        started = time.perf_counter()
        with torch.no_grad():
            completion_logprobs(policy.model, group.prompt, texts, self.work.temperature or 1.0)
        tokens = float(len(group.prompt) + sum(map(len, texts)))
        found.scoring.append((tokens, time.perf_counter() - started))


def _group(tokenizer: Any, slot: Slot, completions: Sequence[Completion]) -> Group:
    """A group that has a gradient, whatever its rollouts were worth."""
    ids = [list(each.token_ids) for each in completions]
    worth = np.array([1.0 if place % 2 else -1.0 for place in range(len(ids))])
    return Group(prompt_token_ids(tokenizer, slot.prompt), ids, worth)


def _spread(slots: Sequence[Slot]) -> list[Slot]:
    """A few slots of every scaffold, evenly over the tasks, so that no kind of prompt is missed."""
    by_scaffold: dict[str, list[Slot]] = {}
    for slot in slots:
        by_scaffold.setdefault(slot.scaffold, []).append(slot)
    each = max(1, PROMPTS // len(by_scaffold))
    return [
        found[place]
        for found in by_scaffold.values()
        for place in sorted({int(index) for index in np.linspace(0, len(found) - 1, min(each, len(found)))})
    ]
