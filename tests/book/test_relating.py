"""Chapter 2's tables: every work that they name is in the references."""

import re

from vegtts_core.book import relating
from vegtts_core.book.runs import best_of_n_run
from vegtts_core.project import find_project_root

BOOK = find_project_root() / "book"
ENTRIES = dict(re.findall(r"(?m)^@\w+\{(\w+),\n((?:.+\n)*?)\}$", (BOOK / "references.bib").read_text("utf-8")))


def cited(text: str) -> set[str]:
    return {key.strip() for keys in re.findall(r"\{cite:[pt]\}`([^`]+)`", text) for key in keys.split(",")}


def test_methods_say_everything_and_cite_what_is_there() -> None:
    table = relating.methods()
    assert list(table.columns) == list(relating.METHOD_COLUMNS)
    assert not (table == "").to_numpy().any() and not table.isna().to_numpy().any()
    text = " ".join(table.to_numpy().ravel())
    assert "{tie}" not in text
    assert cited(text) and cited(text) <= set(ENTRIES)


def test_corrected_names_are_those_of_the_references() -> None:
    table = relating.names()
    for row in table.to_dict("records"):
        assert row["eprint"] in ENTRIES[row["key"]]
        assert "Team" not in ENTRIES[row["key"]].split("title")[0]
    assert not [key for key, entry in ENTRIES.items() if re.search(r"author\s+= \{\{.*Team\}\}", entry)]


def test_chapters_cite_only_what_the_references_have() -> None:
    sources = find_project_root() / "chapters"
    text = " ".join(path.read_text(encoding="utf-8") for path in sources.glob("*.ipynb"))
    assert len(cited(text)) > 20 and cited(text) <= set(ENTRIES)


def test_facts_count_samples_and_credits() -> None:
    facts = relating.facts(best_of_n_run("recorded", "cpu"))
    assert int(facts["others"]) + int(facts["teams"]) == len(relating.names())
    assert int(facts["distinct"].replace(",", "")) < int(facts["samples"].replace(",", ""))
