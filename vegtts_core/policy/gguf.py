"""GGUF files become ordinary model folders: fp32 safetensors, configuration, tokenizer; once per file content.

transformers reads GGUF in about 25 s for 135M weights and the result in one. The converted folder lies in the user's
cache under the file's sha256; it appears there whole or not at all, whoever is killed and however many convert at once.
Weights are saved as fp32 because rounding the dequantised values to bf16 moves logits by up to 0.16.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from vegtts_core.errors import UserError
from vegtts_core.policy.cache import cache_root, file_sha256

#: Counts up whenever the conversion changes, so that old folders are not taken for new ones.
VERSION = 1


def converted_folder(path: Path) -> Path:
    """The model folder for a GGUF file, converting it first if this content was never seen.

    Raises UserError if the file cannot be read as GGUF or holds an architecture that transformers does not know.
    """
    store = cache_root() / "gguf"
    store.mkdir(exist_ok=True)
    name = f"{file_sha256(path)[:32]}-v{VERSION}"
    target = store / name
    if target.is_dir():
        return target
    with FileLock(store / f"{name}.lock"):
        if target.is_dir():  # another process converted it while this one waited
            return target
        partial = store / f"{name}.partial"
        # Whatever lies here was left by a process that was killed: the lock is ours.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _convert(path, partial)
        for file in partial.iterdir():  # on disk before the name exists
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        os.rename(partial, target)
    return target


def _metadata(path: Path) -> dict[str, Any]:
    """The tokenizer's facts as the file states them; token ids become token strings."""
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"]

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    def token(kind: str) -> str | None:
        index = value(f"tokenizer.ggml.{kind}_token_id")
        return None if index is None else str(tokens.contents(index))

    return {
        "eos": token("eos"),
        "pad": token("padding"),
        "bos": token("bos"),
        "eot": token("eot"),
        "pre": value("tokenizer.ggml.pre"),
    }


def _convert(path: Path, folder: Path) -> None:
    progress_was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        facts = _metadata(path)
        source, file = str(path.parent), path.name
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
        loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise UserError(
            f"{path} cannot be read as a GGUF model ({str(error).splitlines()[0]}): name a GGUF file of an "
            "architecture that transformers knows."
        ) from error
    finally:
        if progress_was_on:
            transformers_logging.enable_progress_bar()
    _repair_tokenizer(tokenizer, facts)
    tokenizer.save_pretrained(folder)
    model = _dense(loaded)
    stops = [facts[kind] for kind in ("eos", "eot") if facts[kind] is not None]
    model.generation_config = GenerationConfig(
        eos_token_id=[int(index) for index in tokenizer.convert_tokens_to_ids(stops)] or None,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model.save_pretrained(folder)


def _repair_tokenizer(tokenizer: Any, facts: dict[str, Any]) -> None:
    # transformers 5.17 ignores the file's own special tokens: SmolLM2's eos came out as its bos, its pad as None.
    tokenizer.eos_token = facts["eos"] or tokenizer.eos_token
    tokenizer.bos_token = facts["bos"] or tokenizer.bos_token
    tokenizer.pad_token = facts["pad"] or tokenizer.eos_token
    tokenizer.clean_up_tokenization_spaces = False
    if facts["pre"] == "smollm":
        # The model was trained with every digit split off first; the GGUF reader leaves that step out.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _dense(loaded: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that is not marked as quantised (the mark makes ``save_pretrained`` fail)."""
    config = loaded.config
    vars(config).pop("quantization_config", None)
    config.dtype = torch.float32
    with torch.device("meta"):
        model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    return model
