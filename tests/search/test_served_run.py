"""Best-of-N against a served model: the embedded policy behind a server of ours, killed on the way and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from served_server import MODEL, Brain, Served, serving

from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.scaffolds import ForwardScaffold
from vegtts_core.search import BestOfNParameters, best_of_n
from vegtts_core.tasks import Size, get_task

KEY = "sk-test-0123456789abcdef"
K = 3


@pytest.fixture(scope="module")
def embedded() -> TransformersPolicy:
    policy = load_policy()
    assert isinstance(policy, TransformersPolicy)
    return policy


@pytest.fixture(scope="module")
def served(embedded: TransformersPolicy) -> Iterator[Served]:
    with serving(Brain(embedded)) as server:
        yield server


def write_yaml(path: Path, served: Served, **more: object) -> Path:
    own = {"base_url": served.base_url, "api": "completions", "tokenizer": "embedded", "key_variable": "SERVED_KEY"}
    section = {
        "policy": f"served:{MODEL}",
        "served": own | {"concurrency": 1, "backoff_seconds": 0.05} | more,
        "tasks": [4],
        "seeds": [1],
        "k": K,
        "temperature": 0.5,
        "max_new_tokens": 12,
        "examples": [],
        "evaluator": {"protocols": ["sound"], "sound": {"max_seconds": 0.1, "confirmations": 0}},
    }
    path.write_text(yaml.safe_dump({"best_of_n": section}))
    return path


def start(params: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vegtts_core.search", "--params", str(params), "--folder", str(folder)]
    return subprocess.Popen(
        command,
        env=os.environ | {"SERVED_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests started in a shell's background inherit an ignored SIGINT, and so would the run.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(served: Served, answers: int) -> None:
    deadline = time.monotonic() + 90
    while served.counted["answers"] < answers:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_resumed_without_paying_twice(
    served: Served, embedded: TransformersPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, folder = write_yaml(tmp_path / "served.yaml", served), tmp_path / "run"
    served.faults.extend(["", "503", "", "cut"])
    process = start(params, folder)
    until(served, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    journal = (folder / "parts" / "requests.jsonl").read_text()
    kept = journal.count('"kind": "choice"')
    time.sleep(1.0)  # an answer to the dead may be under way
    served.faults.clear()
    before = len(served.bodies)

    monkeypatch.setenv("SERVED_KEY", KEY)
    run = best_of_n(BestOfNParameters.read("best_of_n", params), folder)
    assert 1 <= kept <= 2
    assert len(served.bodies) - before == K - kept
    assert {line for line in served.keys} == {f"Bearer {KEY}"}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and all(KEY.encode() not in path.read_bytes() for path in files)
    assert KEY not in journal and "127.0.0.1" not in (folder / "manifest.json").read_text()

    samples = run.samples
    assert samples["sample"].tolist() == list(range(K)) and samples["stage"].notna().all()
    prompt = ForwardScaffold().prompt(get_task(4, Size.CPU))
    ids = [tuple(int(token) for token in row) for row in samples["token_ids"]]
    for row, score in zip(samples.itertuples(), embedded.score([prompt], [ids], 0.5)[0], strict=True):
        np.testing.assert_allclose(row.logprobs, score.logprobs, atol=1e-3)
        known = ~np.isnan(row.sampling_logprobs)
        np.testing.assert_allclose(
            np.array(row.sampling_logprobs)[known], np.array(score.sampling_logprobs)[known], atol=4e-3
        )
        assert row.mean_logprob == pytest.approx(np.mean(row.logprobs))
        assert np.isnan(row.sampling_mean_logprob) == (not known.all())
    assert run.manifest["policy"]["name"] == f"served:{MODEL}"
    assert run.manifest["versions"]["dialect"] == "vllm"
    spent = run.compute["served"]
    length = embedded.prompt_tokens([prompt])[0]
    assert run.compute["prompt_tokens"] == K * length
    # What the dead process had asked for and not been told the price of is counted as such.
    assert spent["requests"] == K + spent["unreported_requests"]
    assert spent["prompt_tokens"] == K * length and spent["completion_tokens"] == samples["tokens"].sum()

    # A server that has moved is the same run.
    moved = write_yaml(tmp_path / "moved.yaml", served, base_url="http://127.0.0.1:9/v1", concurrency=7)
    again = best_of_n(BestOfNParameters.read("best_of_n", moved), folder)
    assert again.samples["completion"].tolist() == samples["completion"].tolist()


def test_an_interrupt_does_not_wait_for_the_server(served: Served, tmp_path: Path) -> None:
    served.delay = 300.0
    try:
        process = start(write_yaml(tmp_path / "slow.yaml", served), tmp_path / "run")
        asked, deadline = len(served.bodies), time.monotonic() + 90
        while len(served.bodies) == asked:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and time.monotonic() - begun < 60
        assert "goes on where it stopped" in output and "Traceback" not in output and KEY not in output
    finally:
        served.delay = 0.0
