"""Requests in flight: what is missing is asked for, side by side, until it is there. Runs inside an event loop.

Sample s of a prompt is drawn with its own seed, a function of the run's seed, the prompt and s: K samples are K
streams. Whether a seed means the same tokens again is the server's affair. Results are kept by prompt and sample, not
by arrival. Every finished completion is in the journal before the next thing happens.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from transformers import PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.served.answers import BadAnswer, Choice, read_score
from vegtts_core.policy.served.client import Server, Transient
from vegtts_core.policy.served.journal import Journal
from vegtts_core.policy.served.parameters import Dialect, ServedParameters
from vegtts_core.policy.served.payloads import SEEDS, Payloads, opening_of, stream_seed
from vegtts_core.policy.types import Completion, CompletionScore, Progress, SamplingParameters
from vegtts_core.runs.files import canonical_json
from vegtts_core.scaffolds.types import Prompt

LOG = logging.getLogger(__name__)
#: ``owned_by`` in a server's list of models.
OWNERS: dict[str, Dialect] = {"vllm": "vllm", "llamacpp": "llama.cpp"}
#: The journal's key of all requests that score.
SCORING = "score"
#: A prompt's and a completion's token ids.
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class Job:
    """One prompt's samples: what is asked, under which key, and what has come."""

    prompt: Prompt
    body: dict[str, Any]
    seed: int
    key: str
    done: dict[int, Completion] = field(default_factory=dict)


class Session:
    """One model on one server: what it is, and what it has written. ``spent``: keys of the journal that were used."""

    def __init__(
        self, model: str, parameters: ServedParameters, tokenizer: PreTrainedTokenizerBase | None, journal: Journal
    ) -> None:
        self.parameters = parameters
        self.tokenizer = tokenizer
        self.journal = journal
        self.versions: dict[str, str] = {}
        self.spent: set[str] = set()
        self._model = model
        self._payloads: Payloads | None = None
        self._proven = False

    async def meet(self, server: Server) -> Payloads:
        """Ask once what server this is and which models it has. Raises UserError for a model that it lacks."""
        if self._payloads is not None:
            return self._payloads
        answer = await server.persist(lambda: server.get("/models"))
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = [entry for entry in listed or () if isinstance(entry, dict) and "id" in entry]
        names = [entry["id"] for entry in models]
        if not self._model and len(names) != 1:
            shown = f"has {', '.join(names[:20])}" if names else "does not list its models"
            raise UserError(f"{server.name} {shown}: name one, as policy served:NAME.")
        model = self._model or names[0]
        if names and model not in names and len(names) < 50:  # a host of thousands need not list all
            raise UserError(f"{server.name} has no model {model}, only {', '.join(names)}: name one of them.")
        dialect = self.parameters.dialect
        if dialect == "auto":
            owner = next((entry.get("owned_by") for entry in models if entry["id"] == model), None)
            dialect = OWNERS.get(str(owner), "openai")
        self.versions = {"api": self.parameters.api, "dialect": dialect}
        if self.parameters.provider:
            self.versions["provider"] = self.parameters.provider
        if dialect == "vllm":
            with suppress(Transient, UserError):  # good to know, not needed
                said = await server.get(self.parameters.base_url.removesuffix("/v1") + "/version")
                self.versions["vllm"] = str(said["version"]) if isinstance(said, dict) else "unknown"
        self._payloads = Payloads(self.parameters, model, dialect)
        return self._payloads

    async def sample(
        self,
        server: Server,
        prompts: Sequence[Prompt],
        k: int,
        sampling: SamplingParameters,
        seed: int,
        progress: Progress | None,
    ) -> list[Job]:
        """One job per prompt, each with its samples 0..k-1 done."""
        jobs = self._jobs(await self.meet(server), prompts, sampling, seed)
        self.spent |= {job.key for job in jobs}
        report = _Report(progress, jobs, k)
        # Servers refuse several choices at temperature 0, where they would be equal.
        most = self.parameters.choices_per_request if sampling.temperature else 1
        waiting = [(job, run) for job in jobs for run in _runs(set(range(k)) - set(job.done), most)]
        while waiting and not self._proven:  # a server that cannot serve is found out before many requests are paid
            job, run = waiting.pop(0)
            await self._fill(server, job, run, sampling, report)
            self._proven = any(job.done[sample].logprobs for sample in run)
        places = anyio.Semaphore(self.parameters.concurrency)

        async def fill(job: Job, run: list[int]) -> None:
            async with places:
                await self._fill(server, job, run, sampling, report)

        async with anyio.create_task_group() as group:
            for job, run in waiting:
                group.start_soon(fill, job, run)
        return jobs

    def _jobs(
        self, payloads: Payloads, prompts: Sequence[Prompt], sampling: SamplingParameters, seed: int
    ) -> list[Job]:
        jobs: list[Job] = []
        for place, prompt in enumerate(prompts):
            ids = None
            if self.tokenizer is not None:
                ids = prompt_token_ids(self.tokenizer, prompt)
            body = payloads.body(prompt, ids, sampling)
            first = stream_seed(body, seed, sum(before == prompt for before in prompts[:place]))
            key = hashlib.sha256(canonical_json([payloads.path, body, first]).encode()).hexdigest()[:24]
            jobs.append(Job(prompt, body, first, key, self.journal.choices(key)))
        return jobs

    async def _fill(
        self, server: Server, job: Job, samples: list[int], sampling: SamplingParameters, report: _Report
    ) -> None:
        """Ask until all ``samples`` (consecutive) are there; each request asks for what is still missing."""
        while missing := [sample for sample in samples if sample not in job.done]:
            run = next(iter(_runs(set(missing), len(missing))))
            await server.persist(lambda run=run: self._ask(server, job, run, sampling, report))

    async def _ask(
        self, server: Server, job: Job, run: list[int], sampling: SamplingParameters, report: _Report
    ) -> None:
        """One request for consecutive samples. Raises Transient or BadAnswer if it brings none of them."""
        payloads = await self.meet(server)
        body = job.body | {"seed": (job.seed + run[0]) % SEEDS} | ({"n": len(run)} if len(run) > 1 else {})
        if self.parameters.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        opening = opening_of(job.prompt) if payloads.asks_opening else ""
        choices = {place: Choice() for place in range(len(run))}
        usage, refused, brought = None, False, 0
        await server.turn()
        request = self.journal.asked(job.key)
        try:
            async with aclosing(server.events(payloads.path, body)) as events:
                async for event in events:
                    usage = event.get("usage") or usage
                    if event.get("system_fingerprint"):
                        self.versions["system_fingerprint"] = str(event["system_fingerprint"])
                    for piece in _pieces(event):
                        place = piece.get("index", 0)
                        choice = choices.get(place) if isinstance(place, int) else None
                        if choice is None or choice.finish is not None:
                            continue  # more choices than were asked for
                        report.tokens(choice.add(piece, self.parameters.top_logprobs))
                        if choice.finish is not None:
                            sample = run[place]
                            job.done[sample] = choice.completion(job.prompt, self.parameters, sampling, opening)
                            self.journal.choice(job.key, sample, job.done[sample])
                            brought += 1
                            report.finished()
        except (Transient, BadAnswer) as error:
            refused = isinstance(error, Transient) and error.refused
            if not brought:
                raise
            LOG.warning("%s: %s after %d of %d completions; asking for the rest", server.name, error, brought, len(run))
        except UserError:
            refused = usage is None and not any(choice.tokens or choice.text for choice in choices.values())
            raise
        finally:
            self.journal.ended(job.key, request, usage, refused)
        if not brought:
            raise Transient("an answer without a finished completion")

    async def score(self, server: Server, pairs: dict[Pair, CompletionScore], temperature: float) -> None:
        """Fill in the scores of all ``pairs`` of prompt and completion."""
        payloads = await self.meet(server)
        places = anyio.Semaphore(self.parameters.concurrency)
        self.spent.add(SCORING)

        async def fill(prompt: tuple[int, ...], completion: tuple[int, ...]) -> None:
            async with places:
                body = payloads.score_body(prompt, completion)
                answer = await server.persist(lambda: self._whole(server, body))
            try:
                total = len(prompt) + len(completion)
                pairs[prompt, completion] = read_score(answer, total, len(completion), self.parameters, temperature)
            except BadAnswer as error:
                raise UserError(
                    f"{server.name} cannot score given completions (it sent {error}): use vLLM's server, which echoes "
                    "a prompt with its log-probabilities, or load the model in this process."
                ) from None

        async with anyio.create_task_group() as group:
            for prompt, completion in pairs:
                if completion:
                    group.start_soon(fill, prompt, completion)

    async def _whole(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """The one object of an answer that is not streamed."""
        await server.turn()
        request, answer = self.journal.asked(SCORING), dict[str, Any]()
        try:
            async with aclosing(server.events("/completions", body)) as events:
                async for event in events:
                    answer = event
        finally:
            self.journal.ended(SCORING, request, answer.get("usage"), not answer)
        return answer


class _Report:
    """Progress over all requests of a call: tokens received so far, completions still to come."""

    def __init__(self, progress: Progress | None, jobs: Sequence[Job], k: int) -> None:
        self._progress = progress
        self._tokens = 0
        self._running = sum(k - sum(sample < k for sample in job.done) for job in jobs)
        self.tokens(0)

    def tokens(self, count: int) -> None:
        self._tokens += count
        if self._progress is not None:
            self._progress(self._tokens, self._running)

    def finished(self) -> None:
        self._running -= 1
        self.tokens(0)


def _runs(samples: set[int], most: int) -> Iterator[list[int]]:
    """``samples`` in consecutive runs of at most ``most``."""
    run: list[int] = []
    for sample in sorted(samples):
        if run and (sample != run[-1] + 1 or len(run) == most):
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _pieces(event: dict[str, Any]) -> list[dict[str, Any]]:
    pieces = event.get("choices") or []
    if not isinstance(pieces, list) or not all(isinstance(piece, dict) for piece in pieces):
        raise BadAnswer("choices in an unknown form")
    return pieces
