"""What a policy's configuration says without its weights: parameters, layers, heads, what LoRA would sit on.

The model is built on torch's meta device, where tensors have shapes and no memory, so counts are those of the real
modules, whatever the architecture. Nothing is downloaded: a configuration is found on this machine, shipped with the
project (``models/``), or given as a file. It knows shapes; it knows no tasks or times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM

from vegtts_core.errors import UserError
from vegtts_core.policy.embedded import EMBEDDED, embedded_gguf
from vegtts_core.policy.folders import TEXTS
from vegtts_core.policy.gguf import converted_folder


@dataclass(frozen=True)
class ModelFacts:
    """A causal language model in numbers. ``linears``: (inputs, outputs) of each linear layer that LoRA sits on.

    ``heads``, ``key_value_heads`` and ``head_size`` are those of a layer's attention, ``intermediate`` the width that
    one token takes in the feed-forward part (of all experts that it is sent to). ``shares_prompts``: whether this
    project's attention over a prompt that is stored once fits the model (``policy.engine``); else caches are copied.
    """

    name: str
    source: str
    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    linears: tuple[tuple[int, int], ...]
    shares_prompts: bool

    def lora_parameters(self, rank: int, layers: str = "all") -> int:
        """Weights of an adapter of this rank on every linear layer but the head, or on *attention* alone."""
        if layers == "attention":
            own, shared = self.heads * self.head_size, self.key_value_heads * self.head_size
            return self.layers * rank * (2 * (self.hidden + own) + 2 * (self.hidden + shared))
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linears)

    def cache_bytes(self, item: int) -> int:
        """Bytes that one token's keys and values take, at ``item`` bytes each."""
        return 2 * self.layers * self.key_value_heads * self.head_size * item


def local_folder(policy: str) -> Path | None:
    """Where a policy's small files lie on this machine; None if they do not. Nothing is downloaded."""
    if policy == EMBEDDED:
        return converted_folder(embedded_gguf())
    path = Path(policy).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf" and path.is_file():
        return converted_folder(path)
    repository, _, revision = policy.partition("@")
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=TEXTS, local_files_only=True)
    except (OSError, ValueError):  # not in the cache, or no hub id at all
        return None
    return Path(found)


@cache
def model_facts(policy: str, config: Path | None = None) -> ModelFacts | None:
    """Facts of ``policy``, or of the configuration file given; None where neither is at hand. Raises UserError."""
    if config is not None:
        return _facts(policy, _read(config), config.name)
    shipped = files("vegtts_core.plan") / "models" / f"{policy.partition('@')[0].rsplit('/', 1)[-1]}.json"
    folder = local_folder(policy)
    if folder is not None and (folder / "config.json").is_file():
        return _facts(policy, _read(folder / "config.json"), "its own config.json")
    if shipped.is_file():
        table = json.loads(shipped.read_text(encoding="utf-8"))
        return _facts(policy, table["config"], table["source"])
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{path.name} cannot be read as a model's configuration: name its config.json.") from None
    if not isinstance(values, dict) or "model_type" not in values:
        raise UserError(f"{path.name} names no model_type: give a model's config.json as transformers writes it.")
    return values


def _facts(policy: str, values: dict[str, Any], source: str) -> ModelFacts:
    try:
        given = {name: value for name, value in values.items() if name not in ("model_type", "quantization_config")}
        config = AutoConfig.for_model(values["model_type"], **given)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever an unknown architecture makes of it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{policy} has a configuration that transformers cannot build ({reason}).") from None
    text: Any = config.get_text_config()
    head = model.get_output_embeddings()
    heads = int(text.num_attention_heads)
    experts = int(getattr(text, "num_experts_per_tok", None) or 1)
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_parameters()}
    return ModelFacts(
        name=policy,
        source=source,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size) * experts,
        heads=heads,
        key_value_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_size=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        vocabulary=int(text.vocab_size),
        linears=tuple(
            (module.in_features, module.out_features)
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        ),
        shares_prompts=_plain_attention(model, text, names),
    )


def _plain_attention(model: Any, config: Any, names: set[str]) -> bool:
    """Whether the model asks its attention for nothing that ``policy.attention`` refuses (the run itself tries it)."""
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    capped = getattr(config, "attn_logit_softcapping", None)
    return bool(getattr(model, "_supports_attention_backend", False)) and not (windowed or capped or "sinks" in names)
