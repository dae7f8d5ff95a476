"""The real vLLM engine, beyond the contract: adapters in turn, little memory, interruptions, its end, whole runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
import peft
import psutil
import pytest
import torch
from policy_truth import PROMPTS, token_ids
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from vegtts_core.errors import UserError
from vegtts_core.policy import load_policy
from vegtts_core.policy.load import load_vllm
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.policy.vllm.parameters import VllmParameters
from vegtts_core.policy.vllm.policy import VllmPolicy
from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.search import BestOfNParameters, best_of_n
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.parameters import AdaptationParameters

pytestmark = pytest.mark.vllm

WARM = SamplingParameters(temperature=0.8, max_new_tokens=12)
#: Longer than a block of the prefix cache.
LONG = Prompt("long", (Message(Role.USER, "Write a kernel." + " kernel" * 300),))


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmPolicy]:
    with closing(load_vllm("embedded", None, "float32", "cpu", VllmParameters(), adapters=True)) as policy:
        yield policy


@pytest.fixture(scope="module")
def adapters(embedded_folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """LoRA adapters that change the model: two of different weights and ranks, and one that is too large."""
    folders = {}
    for name, rank in (("one", 4), ("two", 16), ("large", 48)):
        torch.manual_seed(rank)
        model = AutoModelForCausalLM.from_pretrained(embedded_folder)
        config = peft.LoraConfig(r=rank, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp(name)
        peft.get_peft_model(model, config).save_pretrained(str(folder))
        folders[name] = str(folder)
    return folders


def test_adapters_in_turn_on_one_engine(engine: VllmPolicy, adapters: dict[str, str]) -> None:
    """Each swap counts at once, also for a prompt whose keys and values the engine has kept from before."""
    ids = [list(range(100, 110))]
    turns = [None, "one", "two", None, "one", "embedded"]
    found, identities = [], []
    for turn in turns:
        engine.use_adapter(adapters.get(turn, turn) if turn else None)
        found.append(engine.score([LONG], [ids])[0][0].logprobs)
        identities.append(engine.identity.adapter_sha256)
    engine.use_adapter(None)
    for turn, value in zip(turns[:3], found[:3], strict=True):
        direct = load_policy(adapter=adapters[turn] if turn else None)
        np.testing.assert_allclose(direct.score([LONG], [ids])[0][0].logprobs, value, atol=1e-3)
    np.testing.assert_allclose(found[0], found[3], atol=1e-4)
    np.testing.assert_allclose(found[1], found[4], atol=1e-4)
    assert min(np.abs(np.subtract(found[a], found[b])).max() for a, b in ((0, 1), (1, 2), (0, 2), (0, 5))) > 1e-2
    assert identities[0] is None and identities[1] == identities[4] and len(set(identities)) == 4


def test_an_adapter_that_does_not_fit(engine: VllmPolicy, adapters: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at most vllm.max_lora_rank = 16") as caught:
        engine.use_adapter(adapters["large"])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has no adapter_config"):
        engine.use_adapter(str(tmp_path))
    assert engine.identity.adapter_sha256 is None
    assert engine.sample(PROMPTS[:1], 1, WARM, seed=0)[0][0].token_ids  # and the engine goes on


def test_prompts_are_kept_between_calls(engine: VllmPolicy) -> None:
    (length,) = engine.prompt_tokens([LONG])
    engine.sample([LONG], 4, WARM, seed=0)
    from vllm import SamplingParams

    ids = engine.tokenizer.apply_chat_template(
        [{"role": "user", "content": LONG.messages[0].content}], add_generation_prompt=True
    )["input_ids"]
    (output,) = engine._llm.generate({"prompt_token_ids": ids}, SamplingParams(max_tokens=1), use_tqdm=False)
    assert length // 2 < output.num_cached_tokens < length == len(ids)


def test_an_interrupted_call_leaves_nothing_behind(engine: VllmPolicy) -> None:
    expected = engine.sample(PROMPTS, 4, WARM, seed=3)

    def interrupt(tokens: int, running: int) -> None:
        if tokens > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.sample(PROMPTS, 16, SamplingParameters(0.8, 200), seed=4, progress=interrupt)
    assert token_ids(engine.sample(PROMPTS, 4, WARM, seed=3)) == token_ids(expected)


def test_little_memory_costs_time_alone(policy: object) -> None:
    """Keys and values of some 900 tokens for 8 completions of 240: sequences wait and are begun again."""
    sampling = SamplingParameters(1.0, 160)
    little = VllmParameters(kv_cache_gib=0.04, max_model_len=512, max_num_seqs=8)
    prompt = Prompt("count", PROMPTS[2].messages)
    with closing(load_vllm("embedded", None, "float32", "cpu", little, adapters=False)) as engine:
        assert engine._engine.vllm_config.cache_config.num_gpu_blocks * 128 < 8 * 128
        engine.eos_ids = frozenset()
        (ours,) = engine.sample([prompt], 8, sampling, seed=1)
        with pytest.raises(UserError, match="exceeds the 512"):
            engine.sample([prompt], 1, SamplingParameters(1.0, 500), seed=1)
        with pytest.raises(UserError, match="without room for adapters"):
            engine.use_adapter("embedded")
        scores = engine.score([prompt], token_ids([ours]))[0]
    direct = load_policy().score([prompt], token_ids([ours]))[0]
    for written, again, truth in zip(ours, scores, direct, strict=True):
        assert len(written.token_ids) == 160
        np.testing.assert_allclose(written.logprobs, truth.logprobs, atol=1e-3)
        np.testing.assert_allclose(again.logprobs, truth.logprobs, atol=1e-3)


def test_close_ends_every_process() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    engine = load_vllm("embedded", "embedded", "float32", "auto", VllmParameters(max_model_len=512), adapters=True)
    assert engine.identity.adapter_sha256 and engine.identity.versions["vllm"]
    began = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    engine.close()
    _, alive = psutil.wait_procs(began, timeout=20)
    assert began and not [process for process in alive if "resource_tracker" not in " ".join(process.cmdline())]


def test_a_device_that_this_vllm_is_not_built_for() -> None:
    with pytest.raises(UserError, match="built for cpu and cuda is asked for"):
        load_policy(sampler="vllm", device="cuda")


def test_memory_that_is_not_there_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="vLLM could not start with embedded") as caught:
        load_policy(sampler="vllm", vllm=VllmParameters(kv_cache_gib=0.001))
    assert "\n" not in str(caught.value)


def test_best_of_n_from_end_to_end(tmp_path: Path) -> None:
    """A whole run on the engine, and the same run on transformers: the same completions, and verdicts on them."""
    values = {
        "tasks": [4, 12],
        "seeds": [1],
        "k": 6,
        "temperature": 0.7,
        "max_new_tokens": 24,
        "examples": [16],
        "evaluator": {"sound": {"min_pairs": 6, "max_pairs": 6, "warmup": 0}, "published": {"timing_trials": 2}},
    }
    run = best_of_n(BestOfNParameters.checked(values | {"sampler": "vllm"}), tmp_path / "vllm")
    truth = best_of_n(BestOfNParameters.checked(values), tmp_path / "transformers")
    assert len(run.samples) == run.compute["rollouts"] == 12 and run.manifest["status"] == "complete"
    assert run.manifest["parameters"]["sampler"] == "vllm" and "vllm" not in run.manifest["parameters"]
    assert "sampler" not in truth.manifest["parameters"] and run.manifest["versions"]["vllm"]
    assert run.manifest["policy"] == truth.manifest["policy"]
    same = [a == b for a, b in zip(run.samples["completion"], truth.samples["completion"], strict=True)]
    assert sum(same) >= 11
    for column in ("logprobs", "sampling_logprobs"):
        for ours, theirs in zip(run.samples[column][same], truth.samples[column][same], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert run.samples["stage"].notna().all()
    assert run.samples["sound_correct"][same].equals(truth.samples["sound_correct"][same])


@pytest.fixture(scope="module")
def small_policy(embedded_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of two layers whose heads are of a size that vLLM has on a CPU."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("small")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_two_workers_share_the_weights(small_policy: str, tmp_path: Path) -> None:
    """Tensor parallelism: the tokens and log-probabilities of one process, with and without an adapter."""
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(small_policy), lora).save_pretrained(tmp_path / "lora")
    parameters = VllmParameters(tensor_parallel_size=2, kv_cache_gib=0.5)
    with closing(load_vllm(small_policy, None, "float32", "cpu", parameters, adapters=True)) as engine:
        for adapter in (None, str(tmp_path / "lora")):
            engine.use_adapter(adapter)
            alone = load_policy(small_policy, adapter)
            found, expected = (policy.sample(PROMPTS, 4, WARM, seed=3) for policy in (engine, alone))
            assert token_ids(found) == token_ids(expected)
            for one, other in zip(chain(*found), chain(*expected), strict=True):
                np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)


def test_more_workers_than_cores_are_refused(small_policy: str) -> None:
    parameters = VllmParameters(tensor_parallel_size=4096, kv_cache_gib=0.5)
    with pytest.raises(UserError, match="each worker needs one of its own"):
        load_vllm(small_policy, None, "float32", "cpu", parameters, adapters=False)


def test_training_with_the_engine_beside_it(small_policy: str, tmp_path: Path) -> None:
    """Adaptation whose rollouts vLLM writes: each step under the newest adapter, as the trained model itself does."""
    values = {
        "policy": small_policy,
        "lora": {"rank": 8},
        "scaffolds": ["forward"],
        "tasks": [30, 12],
        "examples": [],
        "steps": 2,
        "k": 3,
        "temperature": 1.0,
        "max_new_tokens": 16,
        "algorithm": "sdpo",
        "update": {"learning_rate": 3e-2},
        "evaluator": {"protocols": ["sound"], "sound": {"max_seconds": 0.1}},
    }
    ours = adapt(AdaptationParameters.checked(values | {"sampler": "vllm"}), tmp_path / "vllm")
    truth = adapt(AdaptationParameters.checked(values), tmp_path / "transformers")
    assert sorted(ours.samples["step"].unique()) == [0, 1, 2]
    digests = ours.manifest["adapters"]
    assert len(set(digests.values())) == 2 and not ours.steps["skipped"][0]
    same = [list(a) == list(b) for a, b in zip(ours.samples["token_ids"], truth.samples["token_ids"], strict=True)]
    assert np.mean(same) >= 0.8
    pairs = zip(ours.samples["logprobs"][same], truth.samples["logprobs"][same], strict=True)
    for one, two in chain(pairs):
        np.testing.assert_allclose(one, two, atol=1e-3)
