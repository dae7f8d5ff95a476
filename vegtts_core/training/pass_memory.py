"""How many tokens of several groups one pass of an update may hold: what autograd keeps of them must fit the device.

Activations are counted from shapes: exact for decoders built like Llama, the nearest estimate for others. The count
depends on the model and the card alone, so that a run that is resumed takes the passes that it would have taken. It
knows shapes and bytes; it knows no texts or rewards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vegtts_core.training.selected_scores import KEPT_LOGITS, MAX_LOGITS

#: Tokens of several groups that share a pass, at most. A CPU gains nothing; a GPU is kept waiting by anything less.
PASS_TOKENS = {"cuda": 16384}
#: Share of the device's memory that an update may take. The rest is for the evaluator's processes and for fragments.
UPDATE_SHARE = 0.85
FLOAT = 4
#: Copies of a piece of logits that exist at a time: the model's own, tempered, their exponentials.
LOGIT_COPIES = 3


class DecoderShape(Protocol):
    """The numbers of a decoder that its activations depend on; ``intermediate`` as in `plan.model_facts.ModelFacts`."""

    @property
    def layers(self) -> int: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def intermediate(self) -> int: ...  # noqa: D102
    @property
    def heads(self) -> int: ...  # noqa: D102
    @property
    def key_value_heads(self) -> int: ...  # noqa: D102
    @property
    def head_size(self) -> int: ...  # noqa: D102
    @property
    def vocabulary(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class _Shape:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int


def activation_bytes(shape: DecoderShape, ranks: float, prompt: int, completion: int) -> int:
    """Bytes that autograd keeps, in float32, of ``prompt`` and ``completion`` tokens of packed rows.

    Per token and layer: four times the hidden width (residual and normed, twice), four times the feed-forward width,
    the ranks of the layer's adapters together (``ranks``), two norms' scales, and attention: query, output and its
    log-sum-exp, own keys and values; a prompt's keys and values are kept repeated for every head as well.
    """
    common = 4 * shape.hidden + 4 * shape.intermediate + ranks + 2
    common += shape.heads * (1 + 3 * shape.head_size) + 2 * shape.key_value_heads * shape.head_size
    repeated = 2 * shape.heads * shape.head_size
    layers = shape.layers * (common * (prompt + completion) + repeated * prompt)
    return int(FLOAT * (layers + 2 * shape.head_size * (prompt + completion)))


def logit_bytes(shape: DecoderShape, tokens: int, device: str) -> int:
    """Bytes of log-probabilities over the vocabulary that are kept for the gradient, and of the piece being made."""
    whole = tokens * shape.vocabulary
    piece = min(whole, max(shape.vocabulary, MAX_LOGITS[device]))
    kept = whole if whole <= KEPT_LOGITS[device] else 0
    return FLOAT * (kept + LOGIT_COPIES * piece)


def tokens_that_fit(shape: DecoderShape, ranks: float, kept: int, total: int, device: str = "cuda") -> int:
    """Tokens of a pass on a device of ``total`` bytes beside ``kept`` bytes that are always there; 0 if none fit."""
    most = PASS_TOKENS.get(device, 0)
    room = UPDATE_SHARE * total - kept - FLOAT * (KEPT_LOGITS[device] + LOGIT_COPIES * MAX_LOGITS[device])
    return max(0, min(most, int(room // activation_bytes(shape, ranks, 1, 0))))


def pass_tokens(model: torch.nn.Module) -> int:
    """`tokens_that_fit` for ``model`` where it lies; `PASS_TOKENS` for one whose configuration hides its shape."""
    device = next(model.parameters()).device
    most = PASS_TOKENS.get(device.type, 0)
    config: Any = getattr(model, "config", None)
    shape = _shape(config)
    if not most or shape is None or device.type != "cuda":
        return most
    own = [(name, value) for name, value in model.named_parameters()]
    kept = sum(value.numel() * value.element_size() * (4 if value.requires_grad else 1) for _, value in own)
    ranks = sum(value.shape[0] for name, value in own if "lora_A" in name) / shape.layers
    return tokens_that_fit(shape, ranks, kept, torch.cuda.get_device_properties(device).total_memory)


def _shape(config: Any) -> _Shape | None:
    """The numbers as transformers' configurations of Llama's kin name them; None where one is missing."""
    try:
        text = config.get_text_config()
        heads = int(text.num_attention_heads)
        return _Shape(
            layers=int(text.num_hidden_layers),
            hidden=int(text.hidden_size),
            intermediate=int(text.intermediate_size),
            heads=heads,
            key_value_heads=int(getattr(text, "num_key_value_heads", None) or heads),
            head_size=int(getattr(text, "head_dim", None) or math.ceil(text.hidden_size / heads)),
            vocabulary=int(text.vocab_size),
        )
    except (AttributeError, TypeError):
        return None
