"""What chapters of one build share: computed once there, every time elsewhere, and gone afterwards."""

from __future__ import annotations

import os
from pathlib import Path

from vegtts_core.book import kept, verdicts, verdicts_study


def test_within_a_build_it_is_made_once_and_nothing_stays() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    assert kept.once("a", make) == 1 and kept.once("a", make) == 2
    with kept.keeping():
        folder = Path(os.environ[kept.VARIABLE])
        assert [kept.once("a", make), kept.once("a", make), kept.once("b", make)] == [3, 3, 4]
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists() and kept.VARIABLE not in os.environ
    assert kept.once("a", make) == 5


def test_the_table_of_claims_is_the_same_read_back() -> None:
    with kept.keeping():
        first, second = (verdicts_study.entries("recorded", "cpu") for _ in range(2))
    assert first is not second and list(first) == list(second)
    for main in (True, False):
        assert verdicts.claims_table(first, main).equals(verdicts.claims_table(second, main))
    assert verdicts.legend(first) == verdicts.legend(second)
