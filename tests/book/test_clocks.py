"""Chapter 9's comparison of two clocks: medians by task, and what is called a lean."""

import pandas as pd
import pytest

from vegtts_core.book import clocks, study
from vegtts_core.book.tables import Table


def test_recorded_searches_on_a_gpu_fill_the_table():
    found = clocks.table(study.searches("recorded", "cpu"))
    assert len(found) and (found["candidate_published"] > 0).all()
    assert "nan" not in Table(found, "tab-any", "Any.", clocks.COLUMNS).text()
    assert "µs" in clocks.text(found)


@pytest.mark.parametrize(("lost", "said"), [(100.0, "leans against"), (5.0, "no lean")])
def test_a_lean_is_what_the_candidate_alone_loses(lost, said):
    found = pd.DataFrame({"candidate_lost": [lost + 30] * 3, "reference_lost": [30.0] * 3})
    assert said in clocks.verdict(found)


def test_runs_on_a_cpu_are_no_concern_of_it():
    own = dict(list(study.searches("recorded", "cpu").items())[:1])
    found = clocks.table(own)
    assert not len(found) and clocks.verdict(found) == "Not measured." and "No search" in clocks.text(found)
