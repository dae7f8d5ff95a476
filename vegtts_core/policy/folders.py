"""Where a policy's files lie: the embedded model, folders, GGUF files and the hub; adapters, and what they belong to.

It knows files and their digests; it loads no model.
"""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from vegtts_core.errors import UserError
from vegtts_core.policy.cache import files_sha256
from vegtts_core.policy.embedded import EMBEDDED, EMBEDDED_ADAPTER, embedded_gguf
from vegtts_core.policy.gguf import converted_folder

#: Small files of a model: configuration, tokenizer, chat template.
TEXTS = ["*.json", "*.txt", "*.jinja", "*.model"]
#: The adapter's files, both hashed: its scale is in the configuration.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: Beside them, where training wrote it: the sha256 of the weights that the adapter belongs to, and how it was made.
ORIGIN = "origin.json"


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a model's folder. Raises UserError where there are none."""
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise UserError(f"{folder} holds no weights (*.safetensors): name the folder that save_pretrained wrote.")
    return weights


def local_folder(name: str) -> Path | None:
    """The folder of ``embedded``, a folder or a GGUF file; None for anything else. Raises UserError."""
    if name == EMBEDDED:
        return converted_folder(embedded_gguf())
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"There is no GGUF file {name}: check the path.")
        return converted_folder(path)
    return None


def model_folder(name: str) -> Path:
    """The folder of a policy with its weights, downloaded if need be. Raises UserError."""
    if (local := local_folder(name)) is not None:
        return local
    folder = snapshot(name, ["*.safetensors", *TEXTS])
    return folder if any(folder.glob("*.safetensors")) else snapshot(name, ["*.bin", *TEXTS])


def snapshot(name: str, patterns: list[str]) -> Path:
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


def adapter_folder(adapter: str, weights: str) -> tuple[Path, str]:
    """Where the adapter lies (``embedded``, a folder or a hub id), and its digest.

    Raises UserError where it is missing, half written, or of another model than the one with sha256 ``weights``.
    """
    path = EMBEDDED_ADAPTER if adapter == EMBEDDED else Path(adapter).expanduser()
    folder = path if path.is_dir() else snapshot(adapter, [*ADAPTER_FILES, ORIGIN])
    files = [folder / file for file in ADAPTER_FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"The adapter {adapter} has no {missing[0]}: name the folder that peft's save_pretrained wrote."
        )
    origin = folder / ORIGIN
    if origin.is_file():
        stated = json.loads(origin.read_text(encoding="utf-8"))
        if stated["weights_sha256"] != weights:
            raise UserError(
                f"The adapter {adapter} was trained on {stated.get('policy', 'another model')} (weights "
                f"{stated['weights_sha256'][:12]}…), and this model has {weights[:12]}…: use it on its own model."
            )
    return folder, files_sha256(files)


def first_line(error: BaseException) -> str:
    """What an exception says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
