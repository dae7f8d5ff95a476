"""From a name to a policy: the embedded model, a folder, a GGUF file or a hub id; an adapter, a dtype, a device.

Where their files lie is ``folders``'; it knows nothing of sampling.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import peft
import torch
import transformers
from pydantic import Field
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.parameters import Parameters
from vegtts_core.policy.cache import files_sha256
from vegtts_core.policy.embedded import EMBEDDED
from vegtts_core.policy.folders import (
    TEXTS,
    adapter_folder,
    first_line,
    local_folder,
    model_folder,
    snapshot,
    weight_files,
)
from vegtts_core.policy.requests import eos_ids
from vegtts_core.policy.served import ServedParameters
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import Policy, PolicyIdentity
from vegtts_core.policy.vllm.parameters import VllmParameters

if TYPE_CHECKING:
    from vegtts_core.policy.vllm.policy import VllmPolicy

#: The name under which ``load_policy`` knows a model behind a server, alone or before a colon and the model's name.
SERVED = "served"
Kind = TypeVar("Kind", bound=StrEnum)


class Precision(StrEnum):
    """The dtype of weights and activations; log-probabilities are float32 in either."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Sampler(StrEnum):
    """What runs the model."""

    TRANSFORMERS = "transformers"
    """`TransformersPolicy`, in this process."""
    VLLM = "vllm"
    """`VllmPolicy`, on an engine in processes of its own; needs vLLM."""


class Device(StrEnum):
    """Where the model runs."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"
    """CUDA if there is a device, else the CPU."""


def load_policy(
    name: str = EMBEDDED,
    adapter: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    sampler: str = "transformers",
    vllm: VllmParameters | None = None,
    *,
    served: ServedParameters | None = None,
    journal: Path | None = None,
    cuda_graphs: bool = True,
) -> Policy:
    """A policy for ``name``: ``embedded``, a model folder, a ``.gguf`` file or a hub id (``owner/model[@revision]``).

    ``served:MODEL`` is that model on an OpenAI-compatible server (``served``: its only one), reached and asked as
    ``served`` says; what was paid for is kept in ``journal``, a file. It has its own device, dtype and adapters.

    ``adapter`` is a LoRA adapter saved by peft: ``embedded`` (ours), a folder or a hub id. In float32 it is merged into
    the weights (equal up to rounding, and faster); in bfloat16, where merging would round it away, it stays beside
    them, as it always does with ``sampler`` *vllm*. ``vllm`` are that one's parameters. ``cuda_graphs`` is
    `TransformersPolicy`'s.
    Raises UserError for whatever is missing, unreadable or not offered by this machine.
    """
    if is_served(name):
        if adapter is not None:
            raise UserError(f"An adapter of {name} is its server's: load it there and name it as the model.")
        return _served(name.removeprefix(SERVED).removeprefix(":"), served or ServedParameters(), journal)
    precision = _choice(Precision, dtype, "dtype")
    if _choice(Sampler, sampler, "sampler") is Sampler.VLLM:
        return load_vllm(name, adapter, dtype, device, vllm or VllmParameters(), adapters=adapter is not None)
    place = _device(_choice(Device, device, "device"))
    model, tokenizer, weights, versions = load_model(name, precision)
    adapter_digest = None
    if adapter is not None:
        versions["peft"] = peft.__version__
        model, adapter_digest = load_adapter(model, adapter, weights)
        if precision is Precision.FLOAT32:
            model = model.merge_and_unload()  # type: ignore[operator]
    torch.nn.Module.to(model.eval().requires_grad_(False), place)
    identity = policy_identity(name, weights, adapter_digest, dtype, place, versions)
    return TransformersPolicy(model, tokenizer, identity, cuda_graphs=cuda_graphs)


def is_served(name: str) -> bool:
    """Whether ``name`` means a model behind a server."""
    return name == SERVED or name.startswith(f"{SERVED}:")


def _served(model: str, parameters: ServedParameters, journal: Path | None) -> Policy:
    from vegtts_core.policy.served.policy import ServedPolicy

    tokenizer = load_tokenizer(parameters.tokenizer) if parameters.tokenizer else None
    return ServedPolicy(model, parameters, tokenizer, journal)


def load_vllm(
    name: str, adapter: str | None, dtype: str, device: str, parameters: VllmParameters, *, adapters: bool
) -> VllmPolicy:
    """As `load_policy` with sampler *vllm*; ``adapters`` says whether other adapters may come (`use_adapter`)."""
    from vegtts_core.policy.vllm.engine import require_vllm
    from vegtts_core.policy.vllm.policy import VllmPolicy

    _choice(Precision, dtype, "dtype")
    place = torch.device(require_vllm(_choice(Device, device, "device")))
    folder = model_folder(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        stated = GenerationConfig.from_pretrained(folder) if (folder / "generation_config.json").is_file() else None
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(name, error) from error
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    identity = policy_identity(name, files_sha256(weight_files(folder)), None, dtype, place, versions)
    eos = eos_ids(getattr(stated, "eos_token_id", None), tokenizer)
    policy = VllmPolicy(folder, tokenizer, eos, identity, parameters, adapters)
    if adapter is not None:
        policy.use_adapter(adapter)
    return policy


#: The projections of an attention, as Llama, Qwen, Mistral and Gemma models call them.
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


class LoraParameters(Parameters):
    """The adapter that training makes: rank 16 in the paper (section 3.4); the rest is peft's usual choice.

    Its scale is ``alpha`` / ``rank``; it sits on every linear layer but the head (``layers`` *all*) or on the four
    projections of each attention (*attention*), a quarter of the weights. There is no dropout: a policy and the one
    that its completions were written by are the same.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    layers: Literal["all", "attention"] = Field(default="all", exclude_if=lambda value: value == "all")

    def targets(self, model: torch.nn.Module) -> str | list[str]:
        """What peft is told to adapt in ``model``. Raises UserError for a model whose projections have other names."""
        if self.layers == "all":
            return "all-linear"
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        if not names.issuperset(ATTENTION):
            raise UserError(
                f"lora.layers attention adapts {', '.join(ATTENTION)}, and this model has no layers of these names: "
                "use lora.layers all."
            )
        return list(ATTENTION)


def load_trainable(
    name: str, adapter: str | None, lora: LoraParameters, device: str, seed: int
) -> tuple[peft.PeftModel, PreTrainedTokenizerBase, PolicyIdentity]:
    """A float32 model with a LoRA adapter to train: a new one (its first half drawn from ``seed``), or ``adapter``.

    Raises UserError as `load_policy`, and for an adapter whose rank is not ``lora.rank``.
    """
    place = _device(_choice(Device, device, "device"))
    model, tokenizer, weights, versions = load_model(name, Precision.FLOAT32)
    versions["peft"] = peft.__version__
    digest = None
    model.requires_grad_(False)
    if adapter is not None:
        adapted, digest = load_adapter(model, adapter, weights, trainable=True)
        rank = getattr(adapted.peft_config["default"], "r", None)
        if rank != lora.rank:
            raise UserError(f"The adapter {adapter} has rank {rank} and rank {lora.rank} is asked for: name the same.")
        adapted_layers = getattr(adapted.peft_config["default"], "target_modules", None) or ()
        found = "attention" if set(adapted_layers) == set(ATTENTION) else "all"
        if found != lora.layers:
            raise UserError(f"The adapter {adapter} is on layers {found}: set lora.layers to {found}.")
    else:
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=lora.targets(model),
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        adapted = peft.get_peft_model(model, config)  # type: ignore[assignment]
    torch.nn.Module.to(adapted, place)
    adapted.peft_config["default"].base_model_name_or_path = name  # its own would be a path of this machine
    return adapted, tokenizer, policy_identity(name, weights, digest, Precision.FLOAT32, place, versions)  # type: ignore


def policy_identity(
    name: str, weights: str, adapter: str | None, dtype: str, place: torch.device, versions: dict[str, str]
) -> PolicyIdentity:
    """Who writes the completions, for a manifest."""
    device = f"cuda ({torch.cuda.get_device_name(place)})" if place.type == "cuda" else place.type
    return PolicyIdentity(name, weights, adapter, str(dtype), device, versions)


def load_model(
    name: str, precision: Precision
) -> tuple[transformers.PreTrainedModel, PreTrainedTokenizerBase, str, dict[str, str]]:
    """A model on the CPU, its tokenizer, the sha256 of its weights, and versions. Raises UserError."""
    if is_served(name):
        raise UserError(
            f"The weights of {name} are not in this process, and whatever trains or scores by them needs them here: "
            "name a folder, a GGUF file or a hub id instead of a server."
        )
    folder = model_folder(name)
    weights = weight_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision.value))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(name, error) from error
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return model, tokenizer, files_sha256(weights), versions


def _unloadable(name: str, error: Exception) -> UserError:
    return UserError(
        f"{name} cannot be loaded as a causal language model ({first_line(error)}): name a folder, a GGUF file or "
        "a hub id of one that transformers knows without remote code."
    )


def _choice(kind: type[Kind], value: str, name: str) -> Kind:
    try:
        return kind(value)
    except ValueError:
        raise UserError(f"{name} {value!r} is not known: use one of {', '.join(kind)}.") from None


def _device(device: Device) -> torch.device:
    available = torch.cuda.is_available()
    if device is Device.CUDA and not available:
        raise UserError("No CUDA device is available: use device cpu, or install a CUDA build of torch and its driver.")
    return torch.device("cuda" if device is not Device.CPU and available else "cpu")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of ``embedded``, a folder, a GGUF file or a hub id, without weights. Raises UserError."""
    folder = local_folder(name) or snapshot(name, TEXTS)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"{name} has no tokenizer that can be loaded ({first_line(error)}): name a folder, a GGUF file or a hub "
            "id of a model that transformers knows without remote code."
        ) from error


def load_adapter(
    model: transformers.PreTrainedModel, adapter: str, weights: str, trainable: bool = False
) -> tuple[peft.PeftModel, str]:
    """``model`` (with sha256 ``weights``) with the adapter beside its layers, and the adapter's digest.

    ``adapter`` is ``embedded``, a folder or a hub id. Raises UserError where it is missing, half written, of another
    model or of another kind.
    """
    folder, digest = adapter_folder(adapter, weights)
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except SafetensorError as error:
        raise UserError(
            f"The adapter {adapter} is damaged or only half written ({first_line(error)}): use an earlier checkpoint."
        ) from error
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"The adapter {adapter} does not fit the model ({first_line(error)}): name one that was trained on it."
        ) from error
    if adapted.active_peft_config.is_prompt_learning:
        raise UserError(f"The adapter {adapter} adds tokens to the prompt: use one of the LoRA kind.")
    return adapted, digest  # type: ignore[return-value]
