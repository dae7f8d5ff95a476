"""Listings: code as it stands, in a fence that holds it, with its number and its highlighted lines."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vegtts_core.book.figures import METADATA
from vegtts_core.book.listings import Listing, source_of
from vegtts_core.evaluator.sound import SoundProtocol
from vegtts_core.evaluator.timing_statistics import decide


def test_source_is_the_library_s_own_set_flush_left() -> None:
    text = source_of(SoundProtocol.run, decide)
    assert text.startswith("def run(self)")
    assert text.endswith(inspect.getsource(decide).rstrip() + "\n")
    compile(text, "listing", "exec", flags=0x1000000)  # annotations stay text


@given(st.text(alphabet="`ab \n'", max_size=40))
def test_any_code_stays_inside_its_fence(code: str) -> None:
    tokens = MarkdownIt().parse(Listing(f"x{code}y", "text", "lst-x", "It's code.").markdown())
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content.endswith(f"\n\nx{code}y\n")


def test_options() -> None:
    text = Listing("a\nb\n", "cpp", "lst-x", "Caption: it's `x`.", emphasis=(1, 2), numbered=True).markdown()
    assert text.splitlines()[:5] == [
        "```{code-block} cpp",
        ":name: lst-x",
        ":caption: 'Caption: it''s `x`.'",
        ":linenos:",
        ":emphasize-lines: 1,2",
    ]


def test_what_a_notebook_gets() -> None:
    data, metadata = Listing("a < b\nc", "cpp", "lst-x", "Caption.", emphasis=(1,))._repr_mimebundle_()
    assert metadata == {METADATA: {"kind": "box"}}
    assert "<b>a &lt; b</b>\nc" in data["text/html"]
    assert data["text/plain"] == "Caption.\na < b\nc"
