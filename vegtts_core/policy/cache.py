"""The user's cache folder and the sha256 of large files, so that neither conversion nor hashing happens twice.

It knows files, not models. The folder is ``$VEGTTS_CACHE``, else ``$XDG_CACHE_HOME/vegtts_core``, else
``~/.cache/vegtts_core``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from vegtts_core.errors import UserError

#: Files below this size (bytes) are hashed every time; larger ones once per (path, size, modification time).
REMEMBERED_FROM = 1 << 26
#: Files from this size (bytes) show progress while they are hashed.
PROGRESS_FROM = 1 << 31


def cache_root() -> Path:
    """The cache folder, created if need be. Raises UserError where it cannot be written."""
    explicit = os.environ.get("VEGTTS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(explicit) if explicit else (Path(base) if base else Path.home() / ".cache") / "vegtts_core"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The cache folder {root} cannot be created ({error.strerror}): set VEGTTS_CACHE to a folder that can be."
        ) from error
    return root


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the whole new one, whenever this process is killed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    os.replace(temporary, path)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    size = path.stat().st_size
    with (
        path.open("rb") as stream,
        tqdm(
            total=size,
            unit="B",
            unit_scale=True,
            desc=f"sha256 of {path.name}",
            disable=size < PROGRESS_FROM,
            file=sys.stderr,
        ) as bar,
    ):
        while block := stream.read(1 << 24):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content; large files' digests are remembered until size or modification time change."""
    real = path.resolve()
    stat = real.stat()
    if stat.st_size < REMEMBERED_FROM:
        return _hash(real)
    folder = cache_root() / "digests"
    folder.mkdir(exist_ok=True)
    note = folder / (hashlib.sha256(str(real).encode()).hexdigest()[:32] + ".json")
    key = {"path": str(real), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    try:
        known = json.loads(note.read_text())
        if all(known[name] == value for name, value in key.items()):
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or one that cannot be read: hash again
    digest = _hash(real)
    write_atomically(note, json.dumps({**key, "sha256": digest}))
    return digest


def files_sha256(files: Sequence[Path]) -> str:
    """One digest for several files: that of the file itself if there is one, else of the lines ``name sha256``.

    Files are taken in the order of their names, so the digest does not depend on the folder that holds them.
    """
    digests = [(file.name, file_sha256(file)) for file in sorted(files, key=lambda file: file.name)]
    if len(digests) == 1:
        return digests[0][1]
    lines = "".join(f"{name} {digest}\n" for name, digest in digests)
    return hashlib.sha256(lines.encode()).hexdigest()
