"""Parameters of a run: read from YAML, overridden by name, validated by type. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root


class Parameters(BaseModel):
    """Base of all parameter sets: frozen, and an unknown or ill-typed name is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, section: str, source: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """``section`` of a YAML file (a path, or the name of a file in ``params/``), with overrides.

        An override whose value is None leaves the file's value alone. Raises UserError.
        """
        values = dict(read_yaml(source).get(section) or {})
        values |= {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls.checked(values)

    @classmethod
    def family(
        cls,
        section: str,
        source: str | Path,
        overrides: Mapping[str, Any] | None = None,
        only: Sequence[str] | None = None,
    ) -> dict[str, Self]:
        """The runs of a section by name: what stands under its ``vary``, each over the section's own values.

            adaptation:
              tasks: subset_1
              vary:
                seed_42: {seed: 42}
                slow: {seed: 42, update: {learning_rate: 1.0e-6}}

        Without ``vary`` there is one, named like the section. ``overrides`` are above all, those that are None aside.
        ``only`` names the ones that are wanted. Raises UserError for a section or a name that the file lacks, else as
        `checked`.
        """
        values = read_yaml(source).get(section)
        if not isinstance(values, dict):
            raise UserError(f"{Path(source).name} has no section {section}: name parameters that have one.")
        common = {name: value for name, value in values.items() if name != "vary"}
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        vary = {str(name): variant or {} for name, variant in (values.get("vary") or {section: {}}).items()}
        for name in only or ():
            if name not in vary:
                raise UserError(f"Section {section} has no run {name}: choose from {', '.join(vary)}.")
        return {
            name: cls.checked(_merged(_merged(common, variant), given))
            for name, variant in vary.items()
            if only is None or name in only
        }

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Validate; raises UserError naming the first parameter that is unknown or has the wrong type."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise UserError(f"Unknown parameter {name}: the parameters of {cls.__name__} are {known}.") from None
            raise UserError(f"Parameter {name} is {problem['input']!r}: {problem['msg']}.") from None


def read_yaml(source: str | Path) -> dict[str, Any]:
    """A YAML file as a dictionary: a path, or a bare name for ``params/<name>.yaml`` of the project."""
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        path = find_project_root() / "params" / f"{source}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise UserError(f"There are no parameters called {source}: choose from {names} or name a YAML file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a YAML file of parameters.") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise UserError(f"{path.name} is not valid YAML{line}: correct it.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path.name} holds no named parameters: give sections such as best_of_n.")
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, section by section."""
    result = dict(below)
    for name, value in above.items():
        held = result.get(name)
        both = isinstance(held, Mapping) and isinstance(value, Mapping)
        result[name] = _merged(held, value) if both else value  # type: ignore[arg-type]
    return result
