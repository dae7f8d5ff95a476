"""The run store: one folder per run, written as it goes, that survives being killed at any moment.

While a run is going its folder holds ``manifest.json`` (status *running*), one ``parts/rollouts-*.parquet`` per
finished sampling unit and ``parts/verdicts.jsonl``; when it is done they become ``samples.parquet``,
``references.json`` and ``<kind>_compute.json``, and the manifest lists every file with its sha256 and rows (status
*complete*). A part is either there and whole or not there, so nothing is lost and nothing is counted twice.
The store knows files and columns; what a unit is, and what a verdict means, is its caller's business.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vegtts_core.errors import UserError
from vegtts_core.runs.files import (
    append_line,
    canonical_json,
    locked,
    read_lines,
    sha256_of,
    write_atomically,
    write_json,
)
from vegtts_core.runs.schema import KEY, SAMPLES

RUNNING, COMPLETE = "running", "complete"


@dataclass(frozen=True)
class Run:
    """A complete run: parameters in, tables out.

    ``samples``: one row per rollout (`vegtts_core.runs.schema.SAMPLES`); ``compute``: what it cost;
    ``references``: per task, the reference as its own candidate, its work and its floor. ``steps``: one row per step of
    a run that moves weights; empty for others.
    """

    folder: Path
    manifest: dict[str, Any]
    samples: pd.DataFrame
    compute: dict[str, Any]
    references: pd.DataFrame
    steps: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def measured_on(self) -> dict[str, Any]:
        """The machine that its candidates were measured on, `vegtts_core.remeasuring` included."""
        return self.manifest.get("remeasured", self.manifest)["machine"]

    @property
    def stale_tasks(self) -> frozenset[str]:
        """Tasks that were left out when its candidates were measured again: their times are not like the others'."""
        if "remeasured" not in self.manifest:
            return frozenset()
        return frozenset(self.samples["task"]) - set(self.manifest["remeasured"]["tasks"])


def fingerprint(kind: str, parameters: Mapping[str, Any]) -> str:
    """The name of a run: a digest of its kind and parameters."""
    return hashlib.sha256(f"{kind}\n{canonical_json(parameters)}".encode()).hexdigest()[:12]


def load_run(folder: Path) -> Run:
    """A complete run, checked against its manifest. Raises UserError if it is missing, unfinished or altered."""
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise UserError(f"There is no run in {folder.name}: its manifest.json is missing; record or run it first.")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    if manifest.get("status") != COMPLETE:
        raise UserError(f"The run {folder.name} is not finished: start it again with the same parameters to go on.")
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != facts["sha256"]:
            raise UserError(
                f"{name} of run {folder.name} is missing or differs from its manifest: restore it from git."
            )
    return Run(
        folder=folder,
        manifest=manifest,
        samples=pq.read_table(folder / "samples.parquet").to_pandas(),
        compute=json.loads((folder / f"{manifest['kind']}_compute.json").read_text(encoding="utf-8")),
        references=pd.DataFrame(json.loads((folder / "references.json").read_text(encoding="utf-8"))),
        steps=pd.DataFrame(read_lines(folder / "steps.jsonl") if "steps.jsonl" in manifest["files"] else []),
    )


class RunStore:
    """Writes one run. Open it with `opened`, which holds the folder's lock."""

    def __init__(self, folder: Path, kind: str, parameters: Mapping[str, Any]):
        self.folder = folder
        self.kind = kind
        self.parameters = parameters
        self._parts = folder / "parts"
        self._verdicts = self._parts / "verdicts.jsonl"

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, kind: str, parameters: Mapping[str, Any], report: Any = None) -> Iterator[RunStore]:
        """The store of a run with these parameters in ``folder``, locked against other processes.

        Raises UserError if the folder holds a run with other parameters.
        """
        folder.mkdir(parents=True, exist_ok=True)
        say = report or (lambda message: None)
        with locked(folder / ".lock", lambda: say("Waiting for another process that writes this run.")):
            store = cls(folder, kind, parameters)
            store._begin()
            yield store
        (folder / ".lock").unlink(missing_ok=True)

    def _begin(self) -> None:
        path = self.folder / "manifest.json"
        mine = json.loads(canonical_json(self.parameters))
        if path.is_file():
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["kind"] != self.kind or manifest["parameters"] != mine:
                raise UserError(f"{self.folder.name} holds a run with other parameters: name another folder.")
        else:
            write_json(path, {"kind": self.kind, "parameters": mine, "status": RUNNING})
        if not self.complete:
            self._parts.mkdir(exist_ok=True)

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))["status"] == COMPLETE

    def has_unit(self, unit: str) -> bool:
        """Whether a sampling unit is already on disk."""
        return self._unit_path(unit).is_file()

    def write_unit(self, unit: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
        """A sampling unit's rollouts and what it cost, in one file, atomically."""
        columns = [field for field in SAMPLES if rows and field.name in rows[0]]
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(columns))
        table = table.replace_schema_metadata({"facts": canonical_json(facts)})
        write_atomically(self._unit_path(unit), lambda path: pq.write_table(table, path))

    def units(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(all rollouts so far, the facts of every unit), in the order of the units' names."""
        rows: list[dict[str, Any]] = []
        facts = []
        for path in sorted(self._parts.glob("rollouts-*.parquet")):
            table = pq.read_table(path)
            rows += table.to_pylist()
            facts.append(json.loads(table.schema.metadata[b"facts"]))
        return rows, facts

    def unit(self, unit: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """One unit's rollouts and its facts."""
        table = pq.read_table(self._unit_path(unit))
        return table.to_pylist(), json.loads(table.schema.metadata[b"facts"])

    def append_verdict(self, value: Mapping[str, Any]) -> None:
        """One verdict (or any other JSON record with a ``kind``), on disk before this returns."""
        append_line(self._verdicts, value)

    def verdicts(self) -> list[dict[str, Any]]:
        """Every record appended so far."""
        return read_lines(self._verdicts)

    def finish(
        self,
        rows: Sequence[Mapping[str, Any]],
        references: Sequence[Mapping[str, Any]],
        compute: Mapping[str, Any],
        facts: Mapping[str, Any],
        more: Mapping[str, int] | None = None,
    ) -> None:
        """Write the final tables and the manifest, then drop the parts. Rows are sorted by their key.

        ``more``: further files in the folder that belong to the run, with their numbers of rows.
        """
        ordered = sorted(rows, key=lambda row: tuple(row[name] for name in KEY))
        keys = [tuple(row[name] for name in KEY) for row in ordered]
        if len(set(keys)) != len(keys):
            raise AssertionError("a rollout was counted twice")
        table = pa.Table.from_pylist([dict(row) for row in ordered], schema=SAMPLES)
        write_atomically(self.folder / "samples.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
        write_json(self.folder / "references.json", list(references))
        compute_name = f"{self.kind}_compute.json"
        write_json(self.folder / compute_name, compute)
        counts = {"samples.parquet": len(ordered), "references.json": len(references), compute_name: 1}
        counts |= more or {}
        manifest = {
            "kind": self.kind,
            "parameters": self.parameters,
            "status": COMPLETE,
            **facts,
            "files": {name: {"rows": n, "sha256": sha256_of(self.folder / name)} for name, n in counts.items()},
        }
        write_json(self.folder / "manifest.json", manifest)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _unit_path(self, unit: str) -> Path:
        return self._parts / f"rollouts-{unit}.parquet"
