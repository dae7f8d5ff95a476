"""A served policy against vLLM's own OpenAI-compatible server, started here on loopback with the embedded model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from vegtts_core.policy import TransformersPolicy

pytestmark = pytest.mark.vllm
#: Seconds until a server that does not answer counts as one that will not; starting takes 20 to 40 on two idle cores.
PATIENCE = 600


@pytest.fixture(scope="module")
def base_url(embedded_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log: Path = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", embedded_folder]
    command += ["--served-model-name", "embedded", "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"]
    command += ["--kv-cache-memory-bytes", str(1 << 30), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | {"VLLM_NO_USAGE_STATS": "1"}
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _healthy(port):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_vllms_own_server_keeps_the_contract(base_url: str, policy: TransformersPolicy) -> None:
    from served_contract import check_served

    # Batches that change from moment to moment round differently: a rare token of a repeated call may differ.
    check_served(base_url, policy, atol=1e-3, model="embedded", repeats=False)
