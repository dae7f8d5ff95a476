"""Families of runs: one section of a YAML file, and what differs from run to run.

    adaptation:
      tasks: subset_1
      vary:
        seed_42: {seed: 42}
        slow: {seed: 42, update: {learning_rate: 1.0e-6}}

Without ``vary`` the family has one run, named like its section. It knows dictionaries; it starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.parameters import read_yaml
from vegtts_core.training.parameters import AdaptationParameters


def read_variants(
    section: str, params: str | Path, overrides: Mapping[str, Any] | None = None
) -> dict[str, AdaptationParameters]:
    """The runs of a section by name, each section's values below its variant's, and ``overrides`` above both.

    An override that is None leaves the file's value alone. Raises UserError for a section that the file lacks.
    """
    values = read_yaml(params).get(section)
    if not isinstance(values, dict):
        raise UserError(f"{Path(params).name} has no section {section}: name parameters that have one.")
    common = {name: value for name, value in values.items() if name != "vary"}
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    vary = values.get("vary") or {section: {}}
    return {
        str(name): AdaptationParameters.checked(_merged(_merged(common, variant or {}), given))
        for name, variant in vary.items()
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, section by section."""
    result = dict(below)
    for name, value in above.items():
        held = result.get(name)
        both = isinstance(held, Mapping) and isinstance(value, Mapping)
        result[name] = _merged(held, value) if both else value  # type: ignore[arg-type]
    return result
