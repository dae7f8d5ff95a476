"""What several chapters of one build compute alike, kept while that build runs and no longer.

Chapters run in kernels of their own, so they share files: in a folder that the build makes, names in an environment
variable and removes. Code and data do not change meanwhile. Without a build nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vegtts_core.runs.files import write_atomically

#: Names the folder.
VARIABLE = "VEGTTS_BUILD_KEEPS"

T = TypeVar("T")


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Within the block, processes that are started keep what `once` computes, for each other."""
    with tempfile.TemporaryDirectory(prefix="vegtts-build-") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def once(name: str, make: Callable[[], T]) -> T:
    """What ``make`` returns, or what it returned to another chapter of this build under the same ``name``."""
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return make()
    path = Path(folder) / hashlib.sha256(name.encode()).hexdigest()
    if path.is_file():
        found: T = pickle.loads(path.read_bytes())
        return found
    made = make()
    write_atomically(path, lambda part: part.write_bytes(pickle.dumps(made)))
    return made
