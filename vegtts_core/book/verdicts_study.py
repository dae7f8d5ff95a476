"""The study's table of claims: every rule over every policy whose runs a chapter has, its own and the study's.

It knows where runs come from (``study``, ``runs``) and which rule reads which; the rules know neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vegtts_core import metrics
from vegtts_core.book import distilling_results as distilling
from vegtts_core.book import probing, published, study, transferring, walking
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book.kept import once
from vegtts_core.book.runs import names_runs
from vegtts_core.book.verdict_rules import (
    adaptation,
    adaptation_benefit,
    best_of_n,
    measuring,
    over_sharpening,
    probe,
    self_distillation,
    transfer,
)
from vegtts_core.book.verdict_rules import diversity as diversity_rules
from vegtts_core.book.verdicts import Entries, Entry, Finding, together
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run
from vegtts_core.training.probe import load_probe

Findings = dict[str, dict[str, Finding]]
"""By policy's label, then by claim id; the paper's own numbers have no label."""


def entries(source: str, params: str | Path, seed: int | None = None, k: int | None = None) -> Entries:
    """Every claim with each policy's finding; ``seed`` and ``k`` are those of the chapter's own Best-of-N run.

    Five chapters ask: from recorded runs a build computes it once.
    """
    if source == "recorded":
        return once(f"entries {params} {seed} {k}", lambda: _entries(source, params, seed, k))
    return _entries(source, params, seed, k)


def _entries(source: str, params: str | Path, seed: int | None, k: int | None) -> Entries:
    found: Findings = {"": {"headline-gap": adaptation_benefit.headline()}}
    searches = study.searches(source, params, seed, k)
    for label, run in searches.items():
        found[label] = _searched(run)
    own = next(iter(searches))
    found[own] |= measuring.measured(searches[own].samples, walking.walks("recorded", params))
    for label, more in adapted(source, params).items():
        found[label] = found.get(label, {}) | more
    return by_claim(found)


def by_claim(found: Findings) -> Entries:
    """`entries`' shape, in the order of ``published.claims``; several policies are several tests of a claim."""
    return {
        claim.id: Entry(claim, together({label: each[claim.id] for label, each in found.items() if claim.id in each}))
        for claim in published.claims()
    }


def _searched(run: Run) -> dict[str, Finding]:
    both = {name: best_of_n.findings(metrics.under(run.samples, name)) for name in ("published", "sound")}
    return best_of_n.with_artefacts(both["sound"], both["published"])


def adapted(source: str, params: str | Path) -> Findings:
    """Everything that runs that move weights say."""
    found: Findings = {}
    for label, runs in grouped(study.adaptations(source, params)).items():
        found.setdefault(label, {}).update(adaptation.of_runs(runs))
    for section, rule in (("isolated", over_sharpening.isolated), ("learning_rates", over_sharpening.rates)):
        claim = {"isolated": "isolated-over-sharpening", "learning_rates": "learning-rates"}[section]
        for label, runs in grouped(study.adaptations(source, params, section)).items():
            found.setdefault(label, {})[claim] = rule(runs)
    for label, judged in probes(source, params).items():
        found.setdefault(label, {}).update(probe.of_probe(judged))
    for label, direction in directions(source, params).items():
        found.setdefault(label, {})["transfer"] = transfer.transfer(direction)
    for label, families in distilled(source, params).items():
        more = {
            "feedback-no-lift": self_distillation.feedback(families),
            "equal-budget": self_distillation.doubled(families),
        }
        found.setdefault(label, {}).update(more)
    for label, pairs in density_pairs(source, params).items():
        found.setdefault(label, {})["reward-compression"] = over_sharpening.compression(pairs)
    return found


def grouped(runs: Mapping[str, Run]) -> dict[str, dict[str, Run]]:
    """Runs by the label of their policy (``study.label``)."""
    found: dict[str, dict[str, Run]] = {}
    for name, run in runs.items():
        found.setdefault(study.label(run), {})[name] = run
    return found


def probes(source: str, params: str | Path) -> dict[str, probing.Material]:
    """Probes by label: the chapter's own, then the study's whose adaptation run is recorded."""
    found: dict[str, probing.Material] = {}
    adaptation = names_runs(source, params, "adaptation")
    if adaptation and (source != "recorded" or names_runs(source, params, "probe")):
        own = probing.material(source, params)
        found[study.label(own.run)] = own
    runs = study.studied("adaptation")
    for name in _listed("probe"):
        probe = load_probe(recorded_folder() / name)
        run = runs.get(probe.manifest["parameters"]["origin"]["run"])
        if run is not None:
            protocol = str(run.manifest["parameters"]["protocol"])
            found.setdefault(study.label(run), probing.Material(run, probe, protocol))
    return found


def _listed(section: str) -> list[str]:
    """Names in the study's ``recorded`` list of a section."""
    names = (read_yaml(study.STUDY).get("recorded") or {}).get(section) or []
    return [names] if isinstance(names, str) else list(names)


def directions(source: str, params: str | Path) -> dict[str, transferring.Direction]:
    """Transfers by label, the chapter's own first; of several of one policy the first."""
    found: dict[str, transferring.Direction] = {}
    if names_runs(source, params, "adaptation") and names_runs(source, params, "transfer"):
        for own in transferring.directions(source, params):
            found.setdefault(study.label(own.adaptation), own)
    runs = study.studied("adaptation")
    for judged in study.studied("transfer").values():
        run = runs.get(judged.manifest["parameters"]["run"])
        if run is not None:
            direction = transferring.Direction(transferring.direction_name(run, judged), run, judged)
            found.setdefault(study.label(run), direction)
    return found


def distilled(source: str, params: str | Path) -> dict[str, distilling.Families]:
    """Self-distillation with and without feedback, by label, over the seeds that both have."""
    sections = {distilling.FEEDBACK: "sdpo_feedback", distilling.PROMPT_ONLY: "sdpo_prompt_only"}
    sides = {name: grouped(study.adaptations(source, params, section)) for name, section in sections.items()}
    found = {}
    for label in sides[distilling.FEEDBACK]:
        if label in sides[distilling.PROMPT_ONLY]:
            families = distilling.common_seeds({name: side[label] for name, side in sides.items()})
            if all(families.values()):
                found[label] = families
    return found


def density_pairs(source: str, params: str | Path) -> dict[str, dict[str, dict[str, Run]]]:
    """Runs with a sparse reward beside those that differ in nothing else, by label and the sparse run's name."""
    sections = [
        name for name in read_yaml(study.STUDY).get("recorded") or {} if name.startswith(("beyond", "adaptation"))
    ]
    runs = ctl.density_runs(source, params) | study.adaptations(source, params)
    for section in sections:
        runs |= study.studied(section)
    found: dict[str, dict[str, dict[str, Run]]] = {}
    for name, run in runs.items():
        if run.manifest["parameters"]["rewards"]["threshold"] is None:
            continue
        for dense in runs.values():
            if _but_for_rewards(dense) == _but_for_rewards(run) and dense is not run:
                found.setdefault(study.label(run), {})[name] = {"dense": dense, "sparse": run}
                break
    return found


def _but_for_rewards(run: Run) -> dict[str, object]:
    parameters = dict(run.manifest["parameters"])
    rewards = parameters.pop("rewards") | {"threshold": None}
    return parameters | {"rewards": rewards, "policy": run.manifest["policy"].get("adapter_sha256")}


def decided(found: Entries) -> dict[str, Finding]:
    """The finding shown for each claim that a run speaks to, with the outcome over all policies: for chapter 1."""
    return {name: replace(entry.finding, outcome=entry.outcome) for name, entry in found.items() if entry.findings}


def diversity(source: str, params: str | Path) -> dict[str, Finding]:
    """``collapse`` over the first policy's adaptation runs; empty without any."""
    for runs in grouped(study.adaptations(source, params)).values():
        return {"collapse": diversity_rules.diversity(runs)}
    return {}
