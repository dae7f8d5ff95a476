"""Terms of memory, against the tensors that a real tiny model, its adapter, optimiser, caches and autograd hold."""

from __future__ import annotations

import json

import numpy as np
import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from vegtts_core.errors import UserError
from vegtts_core.plan.counts import work_of
from vegtts_core.plan.families import Family
from vegtts_core.plan.memory import memory_of
from vegtts_core.plan.model_facts import ModelFacts, model_facts
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.policy.engine import AttentionPath
from vegtts_core.policy.load import LoraParameters, load_policy, load_trainable
from vegtts_core.policy.trial import engine_for
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.training.groups import Group, UpdateParameters
from vegtts_core.training.logprobs import PromptPath, completion_logprobs, prompt_path
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.pass_memory import activation_bytes, logit_bytes
from vegtts_core.training.slots import build_slots
from vegtts_core.training.update import train

LLAMA = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32, "num_hidden_layers": 2}
LLAMA |= {"vocab_size": 100, "intermediate_size": 64}
KINDS = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "gpt_oss": LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 16},
    "gemma2": LLAMA | {"head_dim": 8, "sliding_window": 16},
}


def written(folder, kind):
    """A config.json of a tiny model of a kind."""
    config = AutoConfig.for_model(kind, **KINDS[kind])
    config.save_pretrained(folder)
    return folder / "config.json"


def nbytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_adapter_are_counted_exactly(kind, tmp_path):
    facts = model_facts(kind, written(tmp_path, kind))
    assert facts is not None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind]))
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert facts.lora_parameters(4) == sum(parameter.numel() for parameter in trained)


def test_an_adapter_on_attention_alone_is_counted_exactly(tmp_path):
    facts = model_facts("llama", written(tmp_path, "llama"))
    assert facts is not None
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **KINDS["llama"]))
    targets = LoraParameters(layers="attention").targets(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert facts.lora_parameters(4, "attention") == trained < facts.lora_parameters(4)


@pytest.mark.parametrize("kind", KINDS)
def test_whether_a_prompt_is_shared_is_known_without_the_model(kind, tmp_path):
    facts = model_facts(kind, written(tmp_path, kind))
    assert facts is not None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind])).eval()
    assert facts.shares_prompts == (engine_for(model).path is AttentionPath.SHARED_PREFIX)
    assert facts.shares_prompts == (prompt_path(model) is PromptPath.PACKED)


def test_the_papers_model_is_shipped():
    facts = model_facts("openai/gpt-oss-120b")
    assert facts is not None and round(facts.parameters / 1e9, 2) == 116.83  # its model card
    assert not facts.shares_prompts and "config.json" in facts.source
    assert model_facts("somebody/unheard-of") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as a model's configuration"),
        ("{}", "names no model_type"),
        (json.dumps({"model_type": "nothing_like_it"}), "transformers cannot build"),
    ],
)
def test_a_configuration_is_checked(tmp_path, text, said):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        model_facts("some policy", path)


def planned(policy, **changes):
    values = {"policy": str(policy), "tasks": (4, 12), "scaffolds": ("template",), "examples": (), "steps": 1, "k": 3}
    parameters = AdaptationParameters.checked(values | {"max_new_tokens": 20} | changes)
    work = work_of(Family("adaptation", "tiny", "adaptation", parameters), prompt_counter(str(policy)))
    facts = model_facts(str(policy))
    assert facts is not None
    return work, memory_of(work, facts)


def test_what_training_keeps_is_what_its_tensors_take(tiny_policy, tmp_path):
    work, memory = planned(tiny_policy)
    model, tokenizer, _ = load_trainable(str(tiny_policy), None, LoraParameters(), "cpu", 1)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert memory.weights == nbytes(frozen)
    assert memory.adapter == nbytes(trained)
    group = Group([5, 6, 7], [[8, 9], [10, 11, 12]], np.array([1.0, -1.0]))
    parameters = UpdateParameters()
    train(model, tokenizer, lambda step: [group], tmp_path, parameters, steps=1, groups=1, temperature=1.0, seed=1)
    state = torch.load(tmp_path / "checkpoint-1" / "optimizer.pt", weights_only=True)["state"]
    moments = [each[name] for each in state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert memory.moments == nbytes(moments)
    assert memory.gradients == nbytes(parameter for parameter in trained)
    assert planned(tiny_policy, update={"kl": 0.1})[1].adapter == 2 * memory.adapter
    assert memory.total == memory.kept + max(memory.sampling, memory.update)
    assert work.dtype == "float32"


def test_caches_are_what_sampling_holds(tiny_policy):
    """Every completion is made as long as may be, and the engine's own tensors are measured."""
    parameters = BestOfNParameters(
        policy=str(tiny_policy), tasks=(4, 12), scaffold="template", examples=(), k=6, max_new_tokens=70, seeds=(1,)
    )
    work = work_of(Family("b", "b", "best_of_n", parameters), prompt_counter(str(tiny_policy)))
    facts = model_facts(str(tiny_policy))
    assert facts is not None
    memory = memory_of(work, facts)
    policy = load_policy(str(tiny_policy))
    policy.eos_ids = frozenset()  # type: ignore[attr-defined]
    engine = policy._engine  # type: ignore[attr-defined]
    held = {}
    opened = engine.open

    def watched(prefix, prompt_of_row):
        session = opened(prefix, prompt_of_row)
        held["prefix"], held["suffix"] = prefix.state, session._suffix
        return session

    engine.open = watched
    slots = build_slots((4, 12), ("template",), parameters.size, (), "cpu")
    policy.sample([slot.prompt for slot in slots], 6, SamplingParameters(1.0, 70), 1)
    prefix, suffix = held["prefix"], held["suffix"]
    assert memory.prompt_cache == nbytes([*prefix.keys.values(), *prefix.values.values()])
    assert memory.completion_cache == nbytes([*suffix.keys.values(), *suffix.values.values()])
    assert memory.adapter == memory.gradients == memory.moments == memory.update == 0


def test_a_cache_that_cannot_be_shared_is_counted_per_row(tmp_path):
    facts = model_facts("gpt_oss", written(tmp_path, "gpt_oss"))
    assert facts is not None
    prompt, rows, new = 11, 5, 4
    assert facts.cache_bytes(4) == 2 * 2 * 2 * 8 * 4
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_oss", **KINDS["gpt_oss"])).eval()
    engine = engine_for(model)
    with torch.no_grad():
        session = engine.open(engine.prefill([list(range(prompt))]), [0] * rows)
        for _ in range(new):
            session.step(torch.ones(rows, 1, dtype=torch.long))
    cache = session._cache  # type: ignore[attr-defined]
    held = nbytes(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    # Layers with a window may keep less; here everything fits into it.
    assert held == facts.cache_bytes(4) * rows * (prompt + new)


@pytest.mark.parametrize("changes", [{}, {"hidden_size": 64}, {"num_key_value_heads": 4}, {"head_dim": 16}])
@pytest.mark.parametrize(("prompt", "k", "length"), [(40, 3, 6), (10, 9, 12)])
def test_activations_are_what_autograd_keeps(changes, prompt, k, length):
    """Every tensor that a packed pass saves for its gradient, once each, parameters aside."""
    rank = 4
    values = LLAMA | {"vocab_size": 128} | changes
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**values, max_position_embeddings=512))
    facts = _facts_of(model)
    model.requires_grad_(False)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=rank, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
    )
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(128, (prompt + k * length,), generator=random).tolist()
    completions = [ids[prompt + index * length :][:length] for index in range(k)]
    completion_logprobs(adapted, ids[:prompt], completions)  # the trial of the path
    parameters = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        completion_logprobs(adapted, ids[:prompt], completions)
    held = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    logs = 4 * k * length * 128
    ranks = rank * len(facts.linears) / facts.layers
    predicted = activation_bytes(facts, ranks, prompt, k * (length - 1)) + logs
    assert predicted == pytest.approx(held, rel=0.03)


def _facts_of(model):
    config = model.config
    linears = [
        (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    ]
    return ModelFacts(
        "made",
        "made",
        sum(parameter.numel() for parameter in model.parameters()),
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.vocab_size,
        tuple(linears),
        True,
    )


def test_a_shared_prompt_holds_less_than_trls_own_path():
    _, few = planned("embedded", k=2)
    _, many = planned("embedded", k=32)
    assert many.update < many.plain_update / 5
    assert planned("embedded", k=32, update={"shared_prompt": False})[1].update == many.plain_update
    assert few.weights == many.weights and few.update < many.update


def test_logits_beyond_what_is_kept_are_made_again():
    facts = _facts_of(AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA | {"vocab_size": 50000})))
    small, large = logit_bytes(facts, 1000, "cpu"), logit_bytes(facts, 100_000, "cpu")
    assert small > 4 * 1000 * 50000 and large < 4 * 100_000 * 50000 / 10


def test_sharding_splits_what_is_kept(tiny_policy):
    work, whole = planned(tiny_policy)
    facts = model_facts(str(tiny_policy))
    assert facts is not None
    part = memory_of(work, facts, devices=4, sharded=True)
    assert part.weights == -(-whole.weights // 4) and part.moments == -(-whole.moments // 4)
    assert part.activations == whole.activations
    assert memory_of(work, facts, devices=4) == whole
