"""Parameters of the vLLM engine: how much memory, how many devices. Importable without vLLM."""

from __future__ import annotations

from pydantic import Field

from vegtts_core.parameters import Parameters


def is_default_sampler(value: str) -> bool:
    """Whether a run's identity leaves ``sampler`` out: without vLLM it is the run it was before there was a choice."""
    return value == "transformers"


class VllmParameters(Parameters):
    """How the engine runs; names are vLLM's own where it has one. None of them changes what is sampled.

    The engine's memory is bounded by ``kv_cache_gib`` or, without it, ``gpu_memory_utilization``: when keys and values
    do not fit, sequences wait or are computed again, and nothing fails.
    """

    tensor_parallel_size: int = Field(default=1, ge=1)
    """Devices that share the weights."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that the engine may take, weights included. Beside a trainer it must be well below 1."""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """Memory for keys and values in GiB. None: 4 on a CPU; on a GPU whatever ``gpu_memory_utilization`` leaves."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and completion together, in tokens. None: what the model can attend to."""
    max_num_seqs: int = Field(default=128, ge=1)
    """Completions that advance together."""
    max_lora_rank: int = Field(default=16, ge=1)
    """Largest rank of an adapter that is loaded later; the engine reserves room for it if it takes adapters at all."""
    enforce_eager: bool | None = None
    """Do not compile the model. None: on a CPU, where compiling takes a minute and a run may take less."""
