"""Where rates and writing come from: recorded runs, measurements of this machine, files that the user names.

Without a name, rates are those of this machine: a measurement if there is one, else recorded runs that were made on the
same kind. How long completions are does not depend on the machine, so recorded runs of any serve for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.plan.counts import Work
from vegtts_core.plan.observed import Observed, observe, observe_all, rates_of, same_place, settings_of
from vegtts_core.plan.rates import Rates
from vegtts_core.plan.writing import Writing, best_match, writing_of
from vegtts_core.policy.cache import cache_root
from vegtts_core.project import recorded_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import canonical_json, write_json

#: The folder of measurements in the user's cache.
FOLDER = "rates"


@dataclass
class Library:
    """``given``: rates that the user named, above all others. ``here``: facts of this machine."""

    observed: list[Observed] = field(default_factory=list)
    given: list[Rates] = field(default_factory=list)
    here: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def opened(cls, names: Sequence[str] = ()) -> Library:
        """Recorded runs, and what ``names`` say: files of rates, runs by folder or by their name in ``data/runs``.

        With names, only they give rates; how policies write is taken from all. Raises UserError for what is neither.
        """
        files = [name for name in names if Path(name).suffix in (".json", ".yaml", ".yml")]
        given = [_read(Path(name)) for name in files]
        library = cls(observe_all(recorded_folder()), given, machine.cpu())
        runs = []
        for name in (name for name in names if name not in files):
            folder = Path(name) if (Path(name) / "manifest.json").is_file() else recorded_folder() / name
            found = observe(folder)
            if found is None:
                raise UserError(f"{name} is no run that a plan can take rates from: name Best-of-N or a training run.")
            runs.append(found)
            if all(each.name != found.name for each in library.observed):
                library.observed.append(found)
        library.given += [rates_of(runs)] if runs else []
        return library

    def rates(self, work: Work) -> tuple[Rates | None, list[str]]:
        """The rates that ``work`` is planned with (None: there are none), and what has to be said about them."""
        if self.given:
            fitting = [
                rates
                for rates in self.given
                if rates.policy in (None, work.policy) and rates.place.get("device", work.device) == work.device
            ]
            if not fitting:
                return None, [
                    f"The rates given are of policy {self.given[0].policy} on {self.given[0].place.get('device')}, not "
                    f"of {work.policy} on {work.device}: its time is not predicted."
                ]
            return _joined(fitting, work)
        measured = read_measurement(work, self.place(work))
        if measured is not None:
            return _joined([measured[0]], work)
        place = self.place(work)
        fitting = [each for each in self.observed if each.policy == work.policy and same_place(each.place, place)]
        if fitting:
            return _joined([rates_of(fitting)], work)
        return None, [
            f"No rates of {work.policy} on this machine's {work.device} are known: time is not predicted; measure them "
            "with --measure, or give them with --rates."
        ]

    def writing(self, work: Work) -> tuple[Writing | None, list[str]]:
        """How the policy is expected to write (None: unknown), and what has to be said about it."""
        groups = [*work.calls, *work.scored]
        scaffolds = {group.ask.scaffold for groups in groups for group in groups}
        measured = read_measurement(work, self.place(work))
        known = [each.writing for each in self.observed if each.writing is not None]
        if measured is not None and measured[1] is not None:
            known.append(measured[1])
        found, note = best_match(known, work.policy, work.adapter, work.temperature, scaffolds)
        if found is None:
            note = (
                f"No recorded run has written in scaffold {' and '.join(sorted(scaffolds))}: completions and "
                "candidates have bounds, no expectation."
            )
        return found, [note] if note else []

    def room(self, work: Work) -> float | None:
        """GiB of memory of this machine's device of the kind that ``work`` asks for; None where it has none."""
        if work.device == "cpu":
            return self.here.get("memory_gib")
        import torch

        if not torch.cuda.is_available():
            return None
        return torch.cuda.get_device_properties(0).total_memory / 2**30

    def place(self, work: Work) -> dict[str, Any]:
        """This machine, as a policy on ``work.device`` sees it."""
        return self.here | {"device": work.device} | ({"gpu": _gpu()} if work.device == "cuda" else {})


def measurement_path(work: Work, place: dict[str, Any]) -> Path:
    """Where the measurement for such work on such a machine lies."""
    scaffolds = sorted({group.ask.scaffold for call in [*work.calls, *work.scored] for group in call})
    names = ("cpu", "cores", "device", "gpu")
    key = {
        "version": __version__,
        "policy": work.policy,
        "adapter": work.adapter,
        "dtype": work.dtype,
        "merged": work.merged,
        "temperature": work.temperature,
        "scaffolds": scaffolds,
        "judged_on": work.judged_on,
        "settings": _settings(work),
        "place": {name: place.get(name) for name in names},
    }
    digest = hashlib.sha256(canonical_json(key).encode()).hexdigest()[:16]
    return cache_root() / FOLDER / f"{digest}.json"


def read_measurement(work: Work, place: dict[str, Any]) -> tuple[Rates, Writing | None] | None:
    """A measurement made before, if there is one that this version can read."""
    path = measurement_path(work, place)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        given = {"protocol": "measured", "temperature": work.temperature, "max_new_tokens": found["max_new_tokens"]}
        writing = writing_of(found["samples"], "a measurement on this machine", work.policy, work.adapter, given)
        return Rates.checked(found["rates"]), writing
    except (UserError, ValueError, KeyError, TypeError):
        return None  # a cache, so what another version wrote is measured again


def write_measurement(
    work: Work, place: dict[str, Any], rates: Rates, samples: list[dict[str, Any]], max_new_tokens: int
) -> Path:
    """Keep a measurement, with the machine's facts in its rates; returns where."""
    path = measurement_path(work, place)
    path.parent.mkdir(exist_ok=True)
    kept = {"rates": rates.model_dump(mode="json"), "samples": samples, "max_new_tokens": max_new_tokens}
    write_json(path, kept)
    return path


def _joined(fitting: Sequence[Rates], work: Work) -> tuple[Rates, list[str]]:
    """Several rates as one: of each kind the first that has it. Says so where they were taken otherwise."""
    values = fitting[0].model_dump()
    for other in fitting[1:]:
        for name, value in other.model_dump().items():
            if not values[name]:
                values[name] = value
    rates = Rates.checked(values)
    settings = _settings(work)
    scaffolds = {group.ask.scaffold for call in work.calls for group in call}
    if scaffolds & set(rates.evaluation) and rates.settings and settings and rates.settings != settings:
        differ = sorted(name for name in {*settings, *rates.settings} if settings.get(name) != rates.settings.get(name))
        return rates, [
            f"Rates of evaluation were taken with other settings ({', '.join(differ)}): a candidate may take longer or "
            "shorter here."
        ]
    return rates, []


def evaluator_settings(work: Work) -> EvaluatorSettings:
    """How the run evaluates."""
    parameters: Any = work.family.after if work.family.after is not None else work.family.parameters
    return parameters.evaluator


def _settings(work: Work) -> dict[str, Any]:
    """What of them moves seconds per candidate; empty where nothing is evaluated."""
    return {} if work.scored else settings_of(evaluator_settings(work).model_dump(mode="json"))


def _read(path: Path) -> Rates:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} cannot be read: name a file of rates, or a run.") from None
    except yaml.YAMLError:
        raise UserError(
            f"{path.name} is neither JSON nor YAML: give rates as the documentation of --rates says."
        ) from None
    if not isinstance(values, dict):
        raise UserError(f"{path.name} holds no rates: give names such as sampling and update with their seconds.")
    return Rates.checked(values.get("rates", values))


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
