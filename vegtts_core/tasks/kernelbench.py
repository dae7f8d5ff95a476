"""Problems from a copy of KernelBench that the user names: a checkout, or its data set as ``datasets`` stores it.

What such a problem promises about its inputs is not known, so its contract is its own ``get_inputs``: a candidate is
held to the benchmark's distribution under secret seeds and to nothing wider. Only the benchmark's own size exists.
Levels 1 to 3 are read; level 4 would download models. Reading a problem runs its module (never on real data: on the
meta device), which takes milliseconds, but 10 to 30 s for each of level 3's recurrent networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vegtts_core.errors import UserError
from vegtts_core.tasks.draw import ModuleInputs
from vegtts_core.tasks.source import forward_text, run_on_meta
from vegtts_core.tasks.types import Domain, InputContract, InputSpec, Size, Task

PREFIX = "kernelbench:"
_LEVELS = (1, 2, 3)
_COLUMNS = {"code", "level", "name", "problem_id"}
_STATEMENT = (
    "This problem comes from a user's copy of KernelBench and its inputs are only known by its own get_inputs: a "
    "candidate must be right for what that draws under any seed, and no wider domain is checked."
)


@dataclass(frozen=True)
class _Selection:
    path: Path
    level: int | None
    ids: tuple[int, ...]


@dataclass(frozen=True)
class _Record:
    level: int
    id: int
    name: str
    code: str


def load_kernelbench(selector: str, size: Size) -> list[Task]:
    """The tasks of ``kernelbench:/path[#level[/id,id...]]``, by level and id.

    Raises ``UserError`` for the CPU size, a path without problems, an unknown id or a module that does not run.
    """
    if size is not Size.KERNELBENCH:
        raise UserError(
            f"Problems from a KernelBench copy exist at the benchmark's own size only: ask for {selector!r} with "
            "size='kernelbench'."
        )
    selection = _parse(selector)
    wanted = set(selection.ids)
    records = sorted(
        (
            record
            for record in _records(selection.path)
            if (selection.level is None or record.level == selection.level) and (not wanted or record.id in wanted)
        ),
        key=lambda record: (record.level, record.id),
    )
    missing = wanted - {record.id for record in records}
    if not records or missing:
        what = f"problem {min(missing)}" if missing else "problem"
        level = f" of level {selection.level}" if selection.level is not None else ""
        raise UserError(
            f"There is no {what}{level} in {selection.path}: name a checkout (with KernelBench/level1/*.py) or "
            "a datasets copy with the columns code, level, name and problem_id."
        )
    return [_task(record) for record in records]


def _parse(selector: str) -> _Selection:
    path, _, fragment = selector.removeprefix(PREFIX).partition("#")
    match = re.fullmatch(r"(?:(?:level_?)?([1-3])(?:/(\d+(?:,\d+)*))?)?", fragment.replace(" ", ""))
    if match is None or not path:
        raise UserError(
            f"{selector!r} is not of the form kernelbench:/path, kernelbench:/path#2 or kernelbench:/path#2/1,5,7: "
            "write a level from 1 to 3 and its ids after '#'."
        )
    level, ids = match.groups()
    folder = Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"{folder} does not exist: name a KernelBench checkout or a datasets copy of it.")
    return _Selection(folder, int(level) if level else None, tuple(int(i) for i in ids.split(",")) if ids else ())


def _records(path: Path) -> Iterator[_Record]:
    for root in (path / "KernelBench", path):
        if any((root / f"level{level}").is_dir() for level in _LEVELS):
            yield from _checkout_records(root)
            return
    for row in _dataset_rows(path):
        if int(row["level"]) in _LEVELS:
            yield _Record(int(row["level"]), int(row["problem_id"]), str(row["name"]), str(row["code"]))


def _checkout_records(root: Path) -> Iterator[_Record]:
    for file in root.glob("level[1-3]/*.py"):
        match = re.fullmatch(r"(\d+)_(.+)", file.stem)
        if match:
            level = int(file.parent.name.removeprefix("level"))
            yield _Record(level, int(match[1]), match[2], file.read_text(encoding="utf-8"))


def _dataset_rows(path: Path) -> Iterator[dict[str, Any]]:
    # pyarrow and datasets take seconds to import and are needed for data-set copies only.
    if path.is_file() or any(path.rglob("*.parquet")):
        import pyarrow.parquet

        for file in [path] if path.is_file() else sorted(path.rglob("*.parquet")):
            try:
                table = pyarrow.parquet.ParquetFile(file).read()
            except (OSError, ValueError) as error:
                raise UserError(f"{file} is not a parquet file that can be read: copy it again.") from error
            if table.column_names and set(table.column_names) >= _COLUMNS:
                yield from table.select(sorted(_COLUMNS)).to_pylist()
        return
    if not any((path / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        return
    import datasets

    loaded = datasets.load_from_disk(str(path))
    splits: Iterable[Any] = loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]
    for split in splits:
        if set(split.column_names) >= _COLUMNS:
            yield from split.select_columns(sorted(_COLUMNS)).to_list()


def _task(record: _Record) -> Task:
    name = re.sub(rf"^{record.id}_|\.py$", "", record.name)
    try:
        text = forward_text(record.code)
        run = run_on_meta(record.code)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"Problem {record.id} of level {record.level} ({name}) could not be read on the meta device "
            f"({type(error).__name__}: {reason}): mend its module, or name the ids that you want as in "
            f"#{record.level}/1,2,3."
        ) from error
    inputs = tuple(
        _input(argument, value, record.code, index)
        for index, (argument, value) in enumerate(zip(text.arguments, run.inputs, strict=False))
    )
    return Task(
        level=record.level,
        id=record.id,
        name=name,
        family=None,
        size=Size.KERNELBENCH,
        source=record.code,
        inputs=inputs,
        contract=InputContract(_STATEMENT, tuple(spec.name for spec in inputs)),
        forward_arguments=text.arguments,
        forward_signature=text.signature,
        forward_body=text.body,
        flop=run.flop,
        min_bytes=run.min_bytes,
    )


def _input(name: str, value: Any, source: str, index: int) -> InputSpec:
    domain = Domain("get_inputs", "whatever the module's get_inputs draws", ModuleInputs(source, index), True)
    if isinstance(value, torch.Tensor):
        return InputSpec(name, tuple(value.shape), value.dtype, domain, domain)
    number = float(value) if isinstance(value, int | float) else None
    return InputSpec(name, None, None, domain, domain, number)
