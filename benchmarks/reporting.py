"""How the benchmarks hand over what they measured: one object, on standard output or in a file, that says on what."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.runs.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", type=Path, help="write that object to this file as well")


def write(result: dict[str, Any], options: argparse.Namespace, device: str) -> None:
    """Add machine, versions and commit, and write the object to ``--out``."""
    result |= machine.facts(device, find_project_root())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)


def hand_over(result: dict[str, Any], options: argparse.Namespace, device: str) -> bool:
    """Write and print as asked. Whether a table is to be printed instead."""
    if options.out is not None:
        write(result, options, device)
    if options.json:
        print(json.dumps(result))
    return not options.json
