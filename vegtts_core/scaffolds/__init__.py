"""Scaffolds: what a policy is asked, and how its answer becomes a candidate."""

from vegtts_core.scaffolds.forward import ForwardScaffold
from vegtts_core.scaffolds.module import ModuleScaffold
from vegtts_core.scaffolds.types import Candidate, Message, Prompt, Refusal, RefusalKind, Role, Scaffold

__all__ = [
    "Candidate",
    "ForwardScaffold",
    "Message",
    "ModuleScaffold",
    "Prompt",
    "Refusal",
    "RefusalKind",
    "Role",
    "Scaffold",
]
