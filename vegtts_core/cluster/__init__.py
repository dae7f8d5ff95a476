"""Sampling and evaluation over the devices of a Ray cluster: ``pool: ray``. Ray is imported only when asked for."""

from __future__ import annotations

from vegtts_core.cluster.parameters import PooledParameters, RayParameters

__all__ = ["PooledParameters", "RayParameters"]
