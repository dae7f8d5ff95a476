"""Strips from an executed notebook whatever depends on when and where it was executed.

Two executions that computed the same are then the same bytes: no timestamps, random ids, versions, process ids or
paths of this machine. What the kernel wrote to stderr (progress, warnings) went to the terminal and is left out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}

#: Cell metadata that records an execution rather than the author's intent.
CELL_TRACES = ("papermill", "execution", "executionInfo", "ExecuteTime", "scrolled", "collapsed")


def normalise(notebook: NotebookNode, root: Path) -> NotebookNode:
    """``notebook``, changed in place: see the module's text. Paths under ``root`` become relative to it."""
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), language_info=nbformat.from_dict(LANGUAGE))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        for trace in CELL_TRACES:
            cell.metadata.pop(trace, None)
        tags = cell.metadata.get("tags", [])
        injected = "injected-parameters" in tags
        if injected and "hide-input" not in tags:
            tags.append("hide-input")
        cell.id = "injected-parameters" if injected else cell.get("id") or f"cell-{index}"
        if cell.cell_type == "code":
            cell.outputs = _outputs(cell.outputs, root)
    return notebook


def _outputs(outputs: list[NotebookNode], root: Path) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            # The kernel sends what was printed in pieces of chance size.
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        output.get("transient", {}).clear()
        kept.append(output)
    return [nbformat.from_dict(_without_paths(output, _replacements(root))) for output in kept]


def _replacements(root: Path) -> list[tuple[re.Pattern[str], str]]:
    home = os.path.expanduser("~")
    rules = [(re.compile(re.escape(f"{root}/")), ""), (re.compile(re.escape(str(root)) + r"\b"), ".")]
    if len(home) > 1:
        rules.append((re.compile(re.escape(home) + r"(?=/)"), "~"))
    rules.append((re.compile(r"/tmp/ipykernel_\d+/"), "ipykernel/"))
    rules.append((re.compile(r"(?<=\bat )0x[0-9a-f]{6,}"), "0x…"))
    return rules


def _without_paths(value: Any, rules: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, str):
        for pattern, replacement in rules:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {key: _without_paths(item, rules) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item, rules) for item in value]
    return value


def write(notebook: NotebookNode, path: Path) -> None:
    """Write ``notebook`` at once: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    unfinished.replace(path)
