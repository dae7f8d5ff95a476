"""Log-probabilities of a prompt's completions, with gradients: the prompt is computed once.

A group of GRPO is one prompt of hundreds of tokens and dozens of completions of tens (sections 3.3 and 3.5). Run one by
one, nearly all of the work is the same prompt again. Here each group is one packed row (``shared_prompt``): prompt and
completions pass through the linear layers together, unpadded, and the gradient of the prompt's keys and values is the
sum over all completions, as it is in the plain computation. The head runs on the tokens that need it, some at a time.
A model whose attention cannot be served that way, found by a trial on a few tokens, is run plainly.
It knows models and token ids; it knows no rewards, losses or texts.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from vegtts_core.errors import UserError
from vegtts_core.policy.attention import NAME
from vegtts_core.training.pass_memory import PASS_TOKENS, pass_tokens
from vegtts_core.training.selected_scores import MAX_LOGITS, Scores, Selected, limit, selected_scores
from vegtts_core.training.shared_prompt import PackedRow, PackedRows

logger = logging.getLogger(__name__)


Tokens = Sequence[int]


class PromptPath(StrEnum):
    """How a prompt and its completions are run."""

    PACKED = "packed"
    """One row holds the prompt once and all completions."""
    PLAIN = "plain"
    """Each completion follows a prompt of its own: for models that the packed row does not fit."""


def completion_logprobs(
    model: torch.nn.Module,
    prompt: Tokens,
    completions: Sequence[Tokens],
    temperature: float = 1.0,
    *,
    entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log p of each token of ``completions`` after ``prompt``, (K, longest), nats, zero beyond a completion's length.

    The logits are divided by ``temperature`` before the softmax (TRL's convention). With ``entropy``, the second tensor
    has the entropies of the same distributions, of the same shape, else it is None. Both are float32 (float64 for a
    float64 model), on the model's device, and differentiable unless gradients are off, which also saves the memory.

    ``model`` is a causal language model of transformers, or one with LoRA-like adapters of peft, on or disabled. Its
    dropout must be off for the result to be the plain one. Its attention implementation may be left set to one that
    serves other calls as sdpa does. Equal completions are computed once. Raises UserError for an empty prompt and for
    a temperature that is not positive.
    """
    return grouped_logprobs(model, [prompt], [completions], temperature, entropy=entropy)[0]


def grouped_logprobs(
    model: torch.nn.Module,
    prompts: Sequence[Tokens],
    completions: Sequence[Sequence[Tokens]],
    temperature: float = 1.0,
    *,
    entropy: bool = False,
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """``completion_logprobs`` of ``completions[i]`` after ``prompts[i]``, for each i; (K_i, longest_i) each.

    On a GPU, groups that fit together share a pass. On a CPU that gains nothing: whoever wants gradients there needs
    less memory by calling ``completion_logprobs`` and ``backward`` group by group. Raises UserError as that does, and
    for lists of unequal length.
    """
    if len(prompts) != len(completions):
        raise UserError(f"{len(prompts)} prompts came with {len(completions)} groups of completions: give one each.")
    if not 0 < temperature < float("inf"):
        raise UserError(f"Temperature {temperature} has no log-probabilities with a gradient: use a positive number.")
    if not all(len(prompt) for prompt in prompts):
        raise UserError("An empty prompt has no token to predict the first one from: give it a first token.")
    groups = [_Group.of(prompt, group) for prompt, group in zip(prompts, completions, strict=True)]
    packed = prompt_path(model) is PromptPath.PACKED
    device = next(model.parameters()).device
    most = pass_tokens(model) if torch.is_grad_enabled() else PASS_TOKENS.get(device.type, 0)
    results: list[Scores] = [_blank(model, device, group, entropy) for group in groups]
    for batch in _batches(groups, most if packed else 0):
        run = _packed if packed else _plain
        scores = run(model, [groups[index] for index in batch], temperature, entropy)
        for index, (logprobs, entropies) in zip(batch, scores, strict=True):
            group = groups[index]
            results[index] = group.table(logprobs), None if entropies is None else group.table(entropies)
    return results


def prompt_path(model: torch.nn.Module) -> PromptPath:
    """How ``model`` is run here: found once per model by a trial of two short texts, and remembered."""
    base = _base(model)
    if base is None:
        return PromptPath.PLAIN
    if base not in _PATHS:
        _PATHS[base] = _try(base)
    if _PATHS[base] is PromptPath.PACKED and base.config._attn_implementation != NAME:
        base.set_attn_implementation(NAME)
    return _PATHS[base]


_PATHS: WeakKeyDictionary[PreTrainedModel, PromptPath] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Group:
    """A prompt, its different completions that have tokens, and which of them each asked-for completion is."""

    prompt: list[int]
    unique: list[tuple[int, ...]]
    order: list[int | None]

    @staticmethod
    def of(prompt: Tokens, completions: Sequence[Tokens]) -> _Group:
        places: dict[tuple[int, ...], int] = {}
        order = [places.setdefault(tuple(ids), len(places)) if len(ids) else None for ids in completions]
        return _Group(list(prompt), list(places), order)

    @property
    def row(self) -> PackedRow:
        """The last token of a completion predicts nothing that is asked for, and stays away."""
        return PackedRow(len(self.prompt), tuple(len(ids) - 1 for ids in self.unique if len(ids) > 1))

    def targets(self) -> list[int]:
        """The tokens of the different completions, one after the other."""
        return [token for ids in self.unique for token in ids]

    def table(self, values: torch.Tensor) -> torch.Tensor:
        """One value per target -> (K, longest), zeros beyond each completion's length."""
        starts = [0]
        for ids in self.unique:
            starts.append(starts[-1] + len(ids))
        longest = max(len(ids) for ids in self.unique)
        index = torch.full((len(self.order), longest), starts[-1])  # the zero that is appended below
        for row, place in enumerate(self.order):
            if place is not None:
                index[row, : len(self.unique[place])] = torch.arange(starts[place], starts[place + 1])
        return torch.cat([values, values.new_zeros(1)])[index.to(values.device)]


def _blank(model: torch.nn.Module, device: torch.device, group: _Group, entropy: bool) -> Scores:
    """The result of a group none of whose completions has a token."""
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    empty = torch.zeros(len(group.order), 0, dtype=dtype, device=device)
    return empty, empty.clone() if entropy else None


def _batches(groups: list[_Group], tokens: int) -> Iterator[list[int]]:
    """Indices of groups that share a pass of at most ``tokens`` (padding included), or of one group."""
    order = sorted((i for i, group in enumerate(groups) if group.unique), key=lambda i: groups[i].row.length)
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * groups[index].row.length > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _packed(model: torch.nn.Module, groups: list[_Group], temperature: float, entropy: bool) -> list[Scores]:
    """Scores of each group's targets; one pass, one row per group."""
    base = _base(model)
    assert base is not None
    head: Any = base.get_output_embeddings()
    device = head.weight.device
    rows = PackedRows([group.row for group in groups], base.device)
    tokens, positions, sources, targets, counts = [], [], [], [], []
    for number, group in enumerate(groups):
        ids, places = list(group.prompt), list(range(len(group.prompt)))
        last = number * rows.length + len(group.prompt) - 1  # where the first token of each completion is predicted
        for completion in group.unique:
            start = number * rows.length + len(ids)
            sources += [last, *range(start, start + len(completion) - 1)]
            places += range(len(group.prompt), len(group.prompt) + len(completion) - 1)
            ids += completion[:-1]
        padding = [0] * (rows.length - len(ids))
        tokens.append(ids + padding)
        positions.append(places + padding)
        targets += group.targets()
        counts.append(len(group.targets()))
    # A mask of four dimensions keeps transformers from making its own, the size of the square of the row.
    hidden = base.base_model(
        input_ids=torch.tensor(tokens, device=base.device),
        position_ids=torch.tensor(positions, device=base.device),
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=base.device),
        use_cache=False,
        shared_prefix=rows,
    ).last_hidden_state
    needed = hidden.flatten(0, 1)[torch.tensor(sources, device=hidden.device)].to(device)
    logprobs, entropies = selected_scores(head, needed, torch.tensor(targets, device=device), temperature, entropy)
    parts = entropies.split(counts) if entropies is not None else [None] * len(groups)
    return list(zip(logprobs.split(counts), parts, strict=True))


def _plain(model: torch.nn.Module, groups: list[_Group], temperature: float, entropy: bool) -> list[Scores]:
    """Scores of each group's targets; each completion behind its prompt, some rows at a time, padded on the right."""
    return [_plain_group(model, group, temperature, entropy) for group in groups]


def _plain_group(model: torch.nn.Module, group: _Group, temperature: float, entropy: bool) -> Scores:
    device = next(model.parameters()).device
    vocabulary = _vocabulary(model)
    longest = max(len(ids) for ids in group.unique)
    size = max(1, limit(MAX_LOGITS, device) // (vocabulary * longest))
    base = _base(model) or model
    keeps = "logits_to_keep" in inspect.signature(base.forward).parameters
    logprobs, entropies = [], []
    for start in range(0, len(group.unique), size):
        rows = group.unique[start : start + size]
        width = max(len(ids) for ids in rows)
        # Padding follows each completion, so causal attention keeps it out of every logit that is used.
        padded = torch.tensor([[*group.prompt, *ids, *[0] * (width - len(ids))] for ids in rows], device=device)
        options = {"logits_to_keep": width + 1} if keeps else {}
        logits = model(input_ids=padded, use_cache=False, **options).logits[:, -width - 1 : -1]
        inside = torch.arange(width) < torch.tensor([len(ids) for ids in rows])[:, None]
        targets = torch.tensor([token for ids in rows for token in ids], device=logits.device)
        for found, held in zip(
            Selected.apply(logits[inside.to(logits.device)], targets, temperature, entropy),
            (logprobs, entropies),
            strict=True,
        ):
            held.append(found)
    return torch.cat(logprobs), torch.cat(entropies) if entropy else None


def _base(model: torch.nn.Module) -> PreTrainedModel | None:
    """The model without its peft wrapper; None if what the wrapper adds is not inside the model's own layers."""
    configs: Any = getattr(model, "peft_config", None)
    if isinstance(configs, dict) and any(config.is_prompt_learning for config in configs.values()):
        return None
    unwrap: Any = getattr(model, "get_base_model", None)
    base = unwrap() if unwrap is not None and configs is not None else model
    return base if isinstance(base, PreTrainedModel) else None


def _vocabulary(model: torch.nn.Module) -> int:
    config: Any = model.config
    return int(config.get_text_config().vocab_size)


@torch.no_grad()
def _try(base: PreTrainedModel) -> PromptPath:
    """Packed if this model then gives the log-probabilities that it gives by itself, in the tolerance of its dtype."""
    before = base.config._attn_implementation or "eager"
    reason = "it does not let others attend for it"
    if getattr(base, "_supports_attention_backend", False):
        random = torch.Generator().manual_seed(0)
        prompt, *completions = (
            torch.randint(_vocabulary(base), (length,), generator=random).tolist() for length in (7, 3, 1, 5)
        )
        groups = [_Group.of(prompt, completions)]
        with _without_dropout(base), _exact_products():
            ((expected, _),) = _plain(base, groups, 1.0, False)
            try:
                base.set_attn_implementation(NAME)
                ((found, _),) = _packed(base, groups, 1.0, False)
                deviation = (found - expected).abs()
                # In half precision rounding alone moves single values by tenths (policy.engine).
                half = base.dtype.itemsize < 4
                if bool(deviation.mean() < 0.2 and deviation.max() < 2) if half else bool(deviation.max() < 1e-3):
                    return PromptPath.PACKED
                reason = f"its log-probabilities deviate by {deviation.max():.1e}"
            except Exception as error:  # whatever a foreign model makes of an attention it was not written for
                reason = str(error)
            base.set_attn_implementation(before)
    logger.info("%s runs each completion behind its own prompt: %s", type(base).__name__, reason)
    return PromptPath.PLAIN


@contextmanager
def _exact_products() -> Iterator[None]:
    """Float32 products in float32: under TF32, both ways round so coarsely that a trial would tell nothing."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _without_dropout(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
