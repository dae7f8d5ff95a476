"""Policies: prompts in, completions with token log-probabilities out; one protocol (``types``), several samplers.

This package knows token ids, prompts and weights; it knows nothing of tasks, correctness or time. Its vocabulary is
importable without transformers, whose import takes seconds.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vegtts_core.policy.load import load_policy
    from vegtts_core.policy.transformers_policy import TransformersPolicy

__all__ = ["TransformersPolicy", "load_policy"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        from vegtts_core.policy.load import load_policy

        return load_policy
    if name == "TransformersPolicy":
        from vegtts_core.policy.transformers_policy import TransformersPolicy

        return TransformersPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
