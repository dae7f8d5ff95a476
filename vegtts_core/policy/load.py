"""From a name to a policy: the embedded model, a folder, a GGUF file or a hub id; an adapter, a dtype, a device.

It knows where files lie and which of them are hashed; it knows nothing of sampling.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import peft
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers import AutoModelForCausalLM, AutoTokenizer

from vegtts_core.errors import UserError
from vegtts_core.policy.cache import files_sha256
from vegtts_core.policy.embedded import EMBEDDED, embedded_gguf
from vegtts_core.policy.gguf import converted_folder
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import Policy, PolicyIdentity

#: Small files of a model: configuration, tokenizer, chat template.
TEXTS = ["*.json", "*.txt", "*.jinja", "*.model"]
#: The adapter's files, both hashed: its scale is in the configuration.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


Kind = TypeVar("Kind", bound=StrEnum)


class Precision(StrEnum):
    """The dtype of weights and activations; log-probabilities are float32 in either."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Device(StrEnum):
    """Where the model runs."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"
    """CUDA if there is a device, else the CPU."""


def load_policy(
    name: str = EMBEDDED, adapter: str | None = None, dtype: str = "float32", device: str = "cpu"
) -> Policy:
    """A policy for ``name``: ``embedded``, a model folder, a ``.gguf`` file or a hub id (``owner/model[@revision]``).

    ``adapter`` is a LoRA adapter saved by peft: a folder or a hub id. In float32 it is merged into the weights (equal
    up to rounding, and faster); in bfloat16, where merging would round it away, it stays beside them. Raises UserError
    for whatever is missing, unreadable or not offered by this machine.
    """
    precision = _choice(Precision, dtype, "dtype")
    place = _device(_choice(Device, device, "device"))
    folder = _model_folder(name)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise UserError(f"{folder} holds no weights (*.safetensors): name the folder that save_pretrained wrote.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision.value))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"{name} cannot be loaded as a causal language model ({_first_line(error)}): name a folder, a GGUF file or "
            "a hub id of one that transformers knows without remote code."
        ) from error
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    adapter_digest = None
    if adapter is not None:
        versions["peft"] = peft.__version__
        model, adapter_digest = _with_adapter(model, adapter, merge=precision is Precision.FLOAT32)
    torch.nn.Module.to(model.eval().requires_grad_(False), place)
    identity = PolicyIdentity(
        name=name,
        weights_sha256=files_sha256(weights),
        adapter_sha256=adapter_digest,
        dtype=precision.value,
        device=f"cuda ({torch.cuda.get_device_name(place)})" if place.type == "cuda" else place.type,
        versions=versions,
    )
    return TransformersPolicy(model, tokenizer, identity)


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


def _model_folder(name: str) -> Path:
    if name == EMBEDDED:
        return converted_folder(embedded_gguf())
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"There is no GGUF file {name}: check the path.")
        return converted_folder(path)
    folder = _snapshot(name, ["*.safetensors", *TEXTS])
    return folder if any(folder.glob("*.safetensors")) else _snapshot(name, ["*.bin", *TEXTS])


def _snapshot(name: str, patterns: list[str]) -> Path:
    """The local folder of a hub id, downloaded if the hub can be reached."""
    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=patterns,
                ignore_patterns=["original/*", "consolidated*", "onnx/*"],
            )
        )
    except HFValidationError as error:
        raise UserError(f"{name} is neither a folder nor a hub id (owner/model): check its spelling.") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name} is not a local folder and is not in the Hugging Face cache, and the hub did not give it "
            f"({type(error).__name__}): check its spelling, or download it while HF_HUB_OFFLINE is unset."
        ) from error


def _with_adapter(model: transformers.PreTrainedModel, adapter: str, merge: bool) -> tuple[torch.nn.Module, str]:
    path = Path(adapter).expanduser()
    folder = path if path.is_dir() else _snapshot(adapter, list(ADAPTER_FILES))
    files = [folder / file for file in ADAPTER_FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"The adapter {adapter} has no {missing[0]}: name the folder that peft's save_pretrained wrote."
        )
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(folder))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"The adapter {adapter} does not fit the model ({_first_line(error)}): name one that was trained on it."
        ) from error
    if adapted.active_peft_config.is_prompt_learning:
        raise UserError(f"The adapter {adapter} adds tokens to the prompt: use one of the LoRA kind.")
    return (adapted.merge_and_unload() if merge else adapted), files_sha256(files)  # type: ignore[operator]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
