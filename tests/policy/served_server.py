"""A small OpenAI-compatible server on loopback with a real policy behind it, which misbehaves on request.

It speaks both APIs, streamed or whole, in one of three dialects: vLLM's (token ids in place of texts, ``stop_reason``,
``continue_final_message``), llama.cpp's (ids beside texts) and plain OpenAI (texts and bytes alone). Choice i of a
request with seed s is drawn with seed s + i, as vLLM does.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.decode import Row, run_rows
from vegtts_core.policy.randomness import uniforms
from vegtts_core.policy.render import CompletionText, prompt_token_ids
from vegtts_core.policy.types import Completion, StopReason
from vegtts_core.scaffolds.types import Message, Prompt, Role

MODEL = "tiny"
OWNER = {"vllm": "vllm", "llama.cpp": "llamacpp", "openai": "openai"}


class Brain:
    """The policy as a server uses it: token ids in, completions and alternatives out. One request at a time."""

    def __init__(self, policy: TransformersPolicy) -> None:
        self.policy = policy
        self._lock = threading.Lock()

    def ids(self, body: dict[str, Any]) -> list[int]:
        """The prompt of a request."""
        if "messages" in body:
            messages = tuple(Message(Role(one["role"]), one["content"]) for one in body["messages"])
            return prompt_token_ids(self.policy.tokenizer, Prompt("served", messages))
        if isinstance(body["prompt"], list):
            return body["prompt"]
        return [int(i) for i in self.policy.tokenizer(body["prompt"])["input_ids"]]  # type: ignore[union-attr]

    def write(self, ids: list[int], body: dict[str, Any]) -> list[Completion]:
        """Choices of a request."""
        count, steps, seed = body.get("n", 1), body["max_tokens"], body["seed"]
        stop = body.get("stop") or []
        rows = [
            Row(0, uniforms(seed + i, ids, 0, [0], steps)[0], CompletionText(self.policy.tokenizer, ids, stop))
            for i in range(count)
        ]
        with self._lock, self.policy._inference():
            prefix = self.policy._engine.prefill([ids])
            run_rows(self.policy._engine, prefix, rows, body["temperature"], self.policy.eos_ids, lambda *_: None)
        return [row.completion() for row in rows]

    def alternatives(self, prompt: list[int], written: Sequence[int], top: int) -> list[dict[int, float]]:
        """Per token written: log-probabilities of the ``top`` most likely tokens and of the token itself."""
        if not written:
            return []
        ids = torch.tensor([[*prompt, *written]])
        with self._lock, self.policy._inference():
            logits = self.policy.base(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.float().log_softmax(-1)
        values, tokens = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
        found = []
        for row, own in enumerate(written):
            best = dict(zip(tokens[row].tolist(), values[row].tolist(), strict=True))
            found.append({**best, own: float(logprobs[row, own])})
        return found


@dataclass
class Served:
    """What a test sees of the server. ``faults``: consumed one per completion request, in order of arrival."""

    brain: Brain
    dialect: str = "vllm"
    base_url: str = ""
    faults: deque[str] = field(default_factory=deque)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    delay: float = 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may leave whenever it likes
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json(200, {"data": [{"id": MODEL, "owned_by": OWNER[self.served.dialect]}]})
        elif self.path == "/version":
            self._json(200, {"version": "0.0-test"})
        else:
            self._json(404, {"error": {"message": "no such path"}})

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served.bodies.append(body)
        served.keys.append(self.headers.get("Authorization"))
        fault = served.faults.popleft() if served.faults else ""
        time.sleep(served.delay)
        if not self._misbehaved(fault):
            self._answer(body, fault)

    def _misbehaved(self, fault: str) -> bool:
        if fault == "429":
            self._json(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.4"})
        elif fault == "429 for an hour":
            self._json(429, {"error": {"message": "daily limit"}}, {"Retry-After": "5400"})
        elif fault in ("500", "503"):
            self._json(int(fault), {"error": {"message": "engine is unwell"}})
        elif fault == "400 with the key":
            self._json(400, {"error": {"message": f"bad request, headers: {self.headers.get('Authorization')}"}})
        elif fault == "401":
            self._json(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
        elif fault == "redirect":
            self._json(307, {}, {"Location": "/elsewhere"})
        elif fault == "not JSON":
            self._send(200, b'{"choices": [', "application/json")
        elif fault == "no choices":
            self._json(200, {"choices": [], "usage": None})
        elif fault == "closed":
            self.close_connection = True
        else:
            return False
        return True

    def _answer(self, body: dict[str, Any], fault: str) -> None:
        brain, counted = self.served.brain, self.served.counted
        chat = self.path.endswith("/chat/completions")
        ids = brain.ids(body)
        if body.get("echo"):
            top = body["logprobs"]
            found = [None, *brain.alternatives(ids[:1], ids[1:], top)]
            logprobs = None if fault == "no logprobs" else self._logprobs(ids, found, top, chat=False)
            choice = {"index": 0, "text": "", "logprobs": logprobs, "finish_reason": "length"}
            usage = {"prompt_tokens": len(ids), "completion_tokens": 0}
            counted.update(prompt=len(ids))
            self._json(200, {"choices": [choice], "usage": usage})
            return
        completions = brain.write(ids, body | ({"n": 1} if fault == "one choice" else {}))
        usage = {"prompt_tokens": len(ids), "completion_tokens": sum(len(one.token_ids) for one in completions)}
        counted.update(prompt=len(ids), completion=usage["completion_tokens"], answers=1)
        pieces = [list(self._pieces(i, one, ids, body, chat, fault)) for i, one in enumerate(completions)]
        if fault == "a choice too many":
            pieces.append([pieces[0][0] | {"index": len(completions)}])
        if body.get("stream"):
            self._stream(pieces, usage, fault)
        else:
            whole = [_merged(group, chat) for group in pieces]
            self._json(200, {"choices": whole, "usage": usage}, cut=fault == "cut")

    def _pieces(
        self, index: int, one: Completion, ids: list[int], body: dict[str, Any], chat: bool, fault: str
    ) -> Iterator[dict[str, Any]]:
        """A choice token by token; all text comes with the last, as when a server holds back half characters."""
        top = body["top_logprobs"] if chat else body["logprobs"]
        found = self.served.brain.alternatives(ids, one.token_ids, top)
        last = len(one.token_ids) - 1
        for place, token in enumerate(one.token_ids):
            logprobs = None if fault == "no logprobs" else self._logprobs([token], [found[place]], top, chat)
            said = one.text if place == last else ""
            piece: dict[str, Any] = {"index": index, "logprobs": logprobs, "finish_reason": None}
            piece |= {"delta": {"content": said}} if chat else {"text": said}
            if place == last:
                piece["finish_reason"] = "length" if one.stop_reason is StopReason.LENGTH else "stop"
                if self.served.dialect == "vllm":
                    stopped = one.stop_reason is StopReason.STOP_STRING
                    piece["stop_reason"] = next(s for s in body["stop"] if s) if stopped else None
            yield piece

    def _logprobs(
        self, ids: Sequence[int], found: Sequence[dict[int, float] | None], top: int, chat: bool
    ) -> dict[str, Any]:
        dialect, decode = self.served.dialect, self.served.brain.policy.tokenizer.decode

        def name(token: int) -> str:
            return f"token_id:{token}" if dialect == "vllm" else str(decode([token]))

        if chat or dialect == "llama.cpp":
            content = []
            for token, listed in zip(ids, found, strict=True):
                assert listed is not None
                best = sorted(listed.items(), key=lambda pair: -pair[1])[:top]
                entry: dict[str, Any] = {"token": name(token), "logprob": listed[token]}
                entry["bytes"] = list(str(decode([token])).encode())
                entry["top_logprobs"] = [{"token": name(other), "logprob": value} for other, value in best]
                content.append(entry | ({"id": token} if dialect == "llama.cpp" else {}))
            return {"content": content}
        return {
            "tokens": [name(token) for token in ids],
            "token_logprobs": [listed[token] if listed else None for token, listed in zip(ids, found, strict=True)],
            "top_logprobs": [{name(i): v for i, v in listed.items()} if listed else None for listed in found],
        }

    # -- bytes -----------------------------------------------------------------------------------------------------

    def _stream(self, pieces: list[list[dict[str, Any]]], usage: dict[str, int], fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = [{"choices": [piece]} for piece in _interleaved(pieces)]
        if fault == "error in mid-stream":
            events[len(events) // 2] = {"error": {"message": "engine died", "code": 500}}
        elif fault != "no usage":
            events.append({"choices": [], "usage": usage})
        if fault in ("cut", "silent"):
            events = events[:-2]  # the last choice is not finished, earlier ones are
        for event in events:
            self._chunk(f"data: {json.dumps(event)}\n\n".encode())
        if fault == "silent":
            time.sleep(8)
        if fault in ("cut", "silent"):
            self.close_connection = True
            return
        self._chunk(b": a comment\n\ndata: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers, cut)

    def _send(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


def _interleaved(pieces: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All choices' pieces side by side, as servers send them; each choice's own in order."""
    longest = max((len(group) for group in pieces), default=0)
    return [group[place] for place in range(longest) for group in pieces if place < len(group)]


def _merged(group: list[dict[str, Any]], chat: bool) -> dict[str, Any]:
    """The pieces of one choice as one choice."""
    last = dict(group[-1])
    if chat:
        last["message"] = {"role": "assistant", **last.pop("delta")}
    if last["logprobs"]:
        last["logprobs"] = {
            name: [entry for piece in group for entry in piece["logprobs"][name]] for name in last["logprobs"]
        }
    return last


@contextmanager
def serving(brain: Brain, dialect: str = "vllm") -> Iterator[Served]:
    """The server on a port of its own, for as long as the context lasts."""
    served = Served(brain, dialect)
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        served.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
