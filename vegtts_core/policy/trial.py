"""Which engine serves a model: tried on a few tokens, against the logits that the model gives by itself.

It knows models and engines; it knows no texts.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from transformers import PreTrainedModel

from vegtts_core.policy.attention import NAME, CannotServe
from vegtts_core.policy.engine import AttentionPath, Engine, Prefix, RepeatedCacheEngine, SharedPrefixEngine
from vegtts_core.policy.graphs import CudaGraphCapture

logger = logging.getLogger(__name__)


@torch.no_grad()
def engine_for(model: PreTrainedModel, path: AttentionPath | None = None, cuda_graphs: bool = True) -> Engine:
    """The shared-prefix engine if this model's logits come out right with it (and ``path`` allows), else the other.

    On a GPU, and with ``cuda_graphs``, steps are recorded if they come out right as well.

    The trial is two short prompts of unequal length, two rows each, two steps. A model that asks its attention for a
    sliding window, soft-capping, sinks or a position bias is found by what it asks for, any other deviation by its
    log-probabilities: by 1e-3 in float32; in bfloat16, where rounding alone moves them by 0.08 in the mean and by 0.6
    at most (it differs from processor to processor), by 0.2 in the mean or 2 anywhere.
    """
    before = model.config._attn_implementation or "eager"
    if path is AttentionPath.REPEATED_CACHE or not getattr(model, "_supports_attention_backend", False):
        return RepeatedCacheEngine(model)
    vocabulary = int(model.config.get_text_config().vocab_size)
    random = torch.Generator().manual_seed(0)
    prompts, endings = [
        [torch.randint(vocabulary, (length,), generator=random).tolist() for length in lengths]
        for lengths in ((7, 5), (2, 2, 2, 2))
    ]
    prompt_of_row = [0, 1, 0, 1]
    texts = [prompts[prompt] + ending for prompt, ending in zip(prompt_of_row, endings, strict=True)]
    # Padding on the right: causal attention keeps it out of the positions that are compared.
    padded = torch.tensor([ids + [0] * (9 - len(ids)) for ids in texts], device=model.device)
    logits = model(padded, use_cache=False).logits
    expected = _logprobs(torch.stack([row[len(ids) - 3 : len(ids)] for row, ids in zip(logits, texts, strict=True)]))
    try:
        model.set_attn_implementation(NAME)
        engine = SharedPrefixEngine(model)
        prefix = engine.prefill(prompts)
        session = engine.open(prefix, prompt_of_row)
        columns = torch.tensor(endings, device=engine.device).split(1, 1)
        steps = [prefix.logits[prompt_of_row], *(session.step(column)[:, 0] for column in columns)]
        found = _logprobs(torch.stack(steps, 1))
        if not _agree(found, expected, model.dtype):
            raise CannotServe("its logits deviate")
    except Exception as error:  # whatever a foreign model makes of an attention it was not written for
        logger.info("%s gets a repeated cache: %s", type(model).__name__, error)
        model.set_attn_implementation(before)
        return RepeatedCacheEngine(model)
    if cuda_graphs and engine.device.type == "cuda":
        engine.record(CudaGraphCapture(engine.device))
        try_static(model, engine, prefix, prompt_of_row, endings, expected)
    return engine


def try_static(
    model: PreTrainedModel,
    engine: SharedPrefixEngine,
    prefix: Prefix,
    prompt_of_row: list[int],
    endings: list[list[int]],
    expected: torch.Tensor,
) -> None:
    """Set ``engine.static`` to None unless its steps, computed plainly, give the most likely tokens as they should be.

    ``expected`` (rows, 1 + steps, V) are the plain model's log-probabilities after the prompt and after each token of
    ``endings``. A model may take the mask that a recorded step is given for something else than it is.
    """
    assert engine.static is not None
    try:
        session = engine.decode(prefix, prompt_of_row, len(endings[0]))
        for step, tokens in enumerate(zip(*endings, strict=True), 1):
            drawn = torch.from_numpy(session.advance(list(tokens), np.full(len(tokens), 0.5), 0.0))
            likeliest = expected[:, step].cpu().gather(1, drawn[:, :1].long())
            if not _agree(drawn[:, 1:2].float(), likeliest, model.dtype):
                raise CannotServe("its logits deviate where steps are of a fixed shape")
        engine.static.drop()
    except Exception as error:  # as above
        logger.warning("%s decodes without CUDA graphs: %s", type(model).__name__, error)
        engine.static = None


def _agree(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    if dtype == torch.float32:
        return torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
    deviation = (found - expected).abs()
    return bool(deviation.mean() < 0.2) and bool(deviation.max() < 2)


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)
