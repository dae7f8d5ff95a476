"""A policy behind an OpenAI-compatible server: vLLM, llama.cpp's, or a hosted model that gives log-probabilities.

``payloads`` and ``answers`` know the wire format, ``client`` knows HTTP, ``journal`` keeps what was paid for,
``session`` asks for what is missing, and ``policy`` keeps the protocol of `vegtts_core.policy.types`.
"""

from vegtts_core.policy.served.parameters import ServedParameters

__all__ = ["ServedParameters"]
