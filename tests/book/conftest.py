"""Lets the book's tests use the samples tables of ``tests/made_tables.py``, from whichever folder pytest is started."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
