"""What chapters import, imported: see `vegtts_core.book.forked`. Importing any of it starts no work."""

from __future__ import annotations

import importlib
import pkgutil

import vegtts_core.book

#: Chapters' libraries, and what a kernel itself needs.
_LIBRARIES = ("altair", "ipykernel.kernelapp", "pandas", "pyarrow.parquet", "scipy.stats", "torch", "vl_convert")
#: Modules that do something when imported as others do not, or are the program that runs.
_LEFT_OUT = {"build", "forked", "pdf", "preloaded", "runner"}

for name in _LIBRARIES:
    importlib.import_module(name)
for found in pkgutil.iter_modules(vegtts_core.book.__path__):
    if found.name not in _LEFT_OUT:
        importlib.import_module(f"vegtts_core.book.{found.name}")
