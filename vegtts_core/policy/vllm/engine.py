"""A running vLLM engine, or one sentence that says why there is none. Importable without vLLM.

The worker's part of the policy (``worker``) is put into the engine here. It knows folders, devices and memory; it knows
no prompts and no tokens.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.policy.vllm.parameters import VllmParameters

#: Name in a request's ``extra_args`` under which the worker finds what is wanted.
WANTED = "vegtts"
#: GiB for keys and values on a CPU, as `TransformersPolicy` has there.
CPU_KV_CACHE_GIB = 4.0
#: Ranks that vLLM has room for; a smaller adapter takes the next one.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: vLLM reads these from the environment. The first is not a choice: its other runner takes processors of another kind.
_FIXED = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
_CHOSEN = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
#: On a CPU: which cores each worker has. Read when an engine starts.
_CORES = "VLLM_CPU_OMP_THREADS_BIND"


def require_vllm(device: str) -> str:
    """The device that the installed vLLM is built for, ``cpu`` or ``cuda``.

    ``device`` is what is asked for, or ``auto``. Raises UserError if vLLM is missing, broken, or built for another.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "vLLM is not installed: run `make vllm` and use its .venv-vllm, or on a GPU install a vllm that fits its "
            "torch, or use sampler transformers."
        )
    for name, value in _CHOSEN.items():
        os.environ.setdefault(name, value)
    os.environ.update(_FIXED)
    try:
        import vllm  # noqa: F401  # pyright: ignore[reportMissingImports]
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"vLLM is installed and cannot be imported ({first_line(error)}): torchvision, torchaudio and torchcodec "
            "must be builds for the same torch; remove them."
        ) from error
    built = "cpu" if current_platform.is_cpu() else "cuda"
    if device not in (built, "auto"):
        raise UserError(f"The installed vLLM is built for {built} and {device} is asked for: use device {built}.")
    return built


def start_engine(folder: Path, name: str, dtype: str, device: str, parameters: VllmParameters, adapters: bool) -> Any:
    """vLLM's `LLM` on the weights in ``folder``; ``adapters``: with room for LoRA adapters.

    ``name`` is what a message calls the model, ``device`` what `require_vllm` gave. Raises UserError.
    """
    from vllm import LLM  # pyright: ignore  # this package has the same name

    on_cpu = device == "cpu"
    count = parameters.tensor_parallel_size
    shared = {_CORES: _shared_cores(count)} if on_cpu and count > 1 and _CORES not in os.environ else {}
    cache = parameters.kv_cache_gib or (CPU_KV_CACHE_GIB if on_cpu else None)
    lora = {"max_loras": 1, "max_lora_rank": _room(parameters.max_lora_rank)} if adapters else {}
    os.environ.update(shared)
    try:
        return LLM(
            str(folder),
            dtype=dtype,
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            logits_processors=["vegtts_core.policy.vllm.worker:DrawingProcessor"],
            worker_extension_cls="vegtts_core.policy.vllm.worker.LogprobsTaker",
            tensor_parallel_size=count,
            gpu_memory_utilization=parameters.gpu_memory_utilization,
            kv_cache_memory_bytes=None if cache is None else int(cache * 2**30),
            max_model_len=parameters.max_model_len,
            max_num_seqs=parameters.max_num_seqs,
            enforce_eager=on_cpu if parameters.enforce_eager is None else parameters.enforce_eager,
            enable_lora=adapters,
            **lora,
        )
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise UserError(
            f"vLLM could not start with {name} ({first_line(error)}): its own log says more with "
            "VLLM_LOGGING_LEVEL=INFO; vllm.kv_cache_gib, max_num_seqs and max_model_len bound its memory."
        ) from error
    finally:
        for variable in shared:
            del os.environ[variable]


def _shared_cores(count: int) -> str:
    """This process's cores dealt out to ``count`` workers as vLLM wants them (``0,1|2,3``); UserError if too few.

    By itself vLLM gives each worker a NUMA node of its own, and does not start where there are fewer.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        raise UserError(
            f"vllm.tensor_parallel_size is {count} and there are {len(cores)} cores: each worker needs one of its own."
        )
    return "|".join(",".join(map(str, cores[place::count])) for place in range(count))


def _room(rank: int) -> int:
    """The smallest of vLLM's ranks that holds ``rank``. Raises UserError if there is none."""
    for room in LORA_RANKS:
        if rank <= room:
            return room
    raise UserError(f"vllm.max_lora_rank = {rank} is beyond vLLM's {LORA_RANKS[-1]}: use an adapter of smaller rank.")


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
