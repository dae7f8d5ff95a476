"""Every run that a parameter file asks for, family by family, as the commands that make them read it.

It knows sections of a YAML file and their parameter classes; it counts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.parameters import Parameters, read_yaml
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.warm_start_parameters import WarmStartParameters

#: Which recorded runs stand for a section; no family of its own.
RECORDED = "recorded"
#: Of no use to a plan: the names of recorded runs, and the comparison of policies, which is not planned.
LEFT_OUT = (RECORDED, "comparison")
#: Families that follow from an adaptation run.
TRANSFER, PROBE = "transfer", "probe"
#: The order in which a plan shows them; sections of other names come behind.
ORDER = ("best_of_n", "warm_start", "rlvr", "adaptation", "isolated", "learning_rates", "sdpo_feedback")
LAST = (TRANSFER, PROBE)


class TransferParameters(Parameters):
    """Section ``transfer``: what `vegtts_core.training.transfer.transfer` is called with (None: its default)."""

    tasks: str | tuple[int | str, ...] = "subset_2"
    k: int | None = None
    control_k: int | None = None


@dataclass(frozen=True)
class Family:
    """One run to come. ``parameters`` are those of ``kind``; ``after``: the adaptation run that it follows from."""

    section: str
    name: str
    kind: str
    parameters: Parameters
    after: AdaptationParameters | None = None


def families(params: str | Path, section: str | None = None) -> list[Family]:
    """The runs of ``params``, or of one of its sections.

    A probe has no section: it is there where an adaptation is; a comparison is left out. Raises UserError for a section
    that is not there, and for parameters that the run itself would refuse.
    """
    values = {name: value for name, value in read_yaml(params).items() if name not in LEFT_OUT}
    found = [name for name, value in values.items() if isinstance(value, Mapping)]
    if "adaptation" in found:
        found.append(PROBE)
    if section is not None and section not in found:
        raise UserError(f"{Path(params).name} has no section {section}: choose from {', '.join(sorted(set(found)))}.")
    known = [name for name in ORDER if name in found]
    others = [name for name in found if name not in (*ORDER, *LAST)]
    ordered = [*known, *others, *(name for name in LAST if name in found)]
    return [run for name in ordered if section in (None, name) for run in _runs(name, params, values)]


def _runs(section: str, params: str | Path, values: Mapping[str, Any]) -> list[Family]:
    if section.startswith("best_of_n"):
        runs = BestOfNParameters.family(section, params)
        return [Family(section, name, "best_of_n", parameters) for name, parameters in runs.items()]
    if section == "warm_start":
        return [Family(section, section, "warm_start", WarmStartParameters.read(section, params))]
    if section in LAST:
        if "adaptation" not in values:
            raise UserError(f"Section {section} follows an adaptation run: {Path(params).name} has none.")
        name, after = next(iter(AdaptationParameters.family("adaptation", params).items()))
        given = TransferParameters.read(section, params) if section == TRANSFER else Parameters()
        return [Family(section, f"{section} of {name}", section, given, after)]
    return [
        Family(section, name, "adaptation", parameters)
        for name, parameters in AdaptationParameters.family(section, params).items()
    ]


def recorded_family(kind: str, name: str, parameters: Mapping[str, Any]) -> Family | None:
    """The run that a manifest's parameters describe; None for a kind that is not planned from parameters alone."""
    classes = {
        "best_of_n": BestOfNParameters,
        "adaptation": AdaptationParameters,
        "warm_start": WarmStartParameters,
    }
    if kind not in classes:
        return None
    given = {key: value for key, value in parameters.items() if key != "version"}
    return Family(kind, name, kind, classes[kind].checked(given))
