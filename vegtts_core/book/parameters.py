"""A chapter's parameters: what its cell tagged ``parameters`` declares, and whether given values fit.

papermill itself only warns of a name that the chapter does not know and takes any type; here both are refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import papermill
import yaml

from vegtts_core.errors import UserError

NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


def declared(chapter: Path) -> dict[str, Any]:
    """Name and default of every parameter of ``chapter``, in order.

    Raises ``UserError`` if the file is missing or is no notebook.
    """
    if not chapter.is_file():
        raise UserError(f"There is no chapter {chapter}: give the path of a notebook in chapters/.")
    try:
        found = papermill.inspect_notebook(chapter)
    except Exception as problem:
        raise UserError(f"{chapter} cannot be read as a notebook ({problem}): restore it from git.") from problem
    return {name: _literal(chapter, name, parameter["default"]) for name, parameter in found.items()}


def _types(chapter: Path) -> dict[str, type]:
    """The types that parameters whose default is None declare by a comment ``# type: int``."""
    known = {kind.__name__: kind for kind in NAMES}
    found = papermill.inspect_notebook(chapter)
    return {n: known[p["inferred_type_name"]] for n, p in found.items() if p["inferred_type_name"] in known}


def _literal(chapter: Path, name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as problem:
        raise UserError(f"Parameter {name} of {chapter.name} has the default {text}: write a plain value.") from problem


def read_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """``-p name value`` pairs: each value is read as YAML, so ``16`` is a number and ``[4, 5]`` a list."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in values:
            raise UserError(f"Parameter {name} is given twice: give it once.")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as problem:
            raise UserError(f"The value of parameter {name}, {text!r}, is not valid YAML: quote it.") from problem
    return values


def read_file(path: Path) -> dict[str, Any]:
    """A YAML file with one mapping from parameter names to values."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise UserError(f"There is no parameter file {path}: check the path.") from problem
    except yaml.YAMLError as problem:
        raise UserError(f"The parameter file {path} is not valid YAML: {' '.join(str(problem).split())}.") from problem
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"The parameter file {path} must hold one mapping from names to values.")
    return values


def check(chapter: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given``, each value with the type of its default (a whole number will do for a number).

    A default of None takes None and, where a comment ``# type: int`` says so, that type; without one, anything. Raises
    ``UserError`` naming the first unknown or ill-typed parameter.
    """
    defaults, types = declared(chapter), _types(chapter)
    checked = {}
    for name, value in given.items():
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise UserError(f"{chapter.name} has no parameter {name!r}: it has {known}.")
        checked[name] = _fit(chapter, name, value, defaults[name], types.get(name, type(None)))
    return checked


def _fit(chapter: Path, name: str, value: Any, default: Any, commented: type) -> Any:
    wanted = commented if default is None else type(default)
    if type(value) is wanted or (default is None and (value is None or wanted is type(None))):
        return value
    if wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if wanted is float and not isinstance(value, bool):
        try:
            return float(value)  # 1e-5 is text in YAML, and 1 is a whole number
        except (TypeError, ValueError):
            pass
    what = NAMES.get(wanted, wanted.__name__)
    raise UserError(f"Parameter {name!r} of {chapter.name} must be {what}, not {value!r}.")
