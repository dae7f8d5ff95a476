"""Runs: parameters in, tables out; written as they go, resumable, and explained by a manifest."""

from vegtts_core.runs.store import Run, RunStore, load_run

__all__ = ["Run", "RunStore", "load_run"]
