"""Every page of the built book in headless Chromium, network cut off. Build it first: ``make book``.

Pages are opened narrow and wide, with scripts and without.
"""

from __future__ import annotations

from urllib.parse import unquote, urldefrag, urljoin

import pytest
from browsing import Visit, chromium, served, visit

from vegtts_core.book.pdf import find_chromium
from vegtts_core.project import find_project_root

pytestmark = pytest.mark.browser

NARROW, WIDE = 390, 1280

HTML = find_project_root() / "book" / "_build" / "html"
TEXTS = {
    path.relative_to(HTML).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(HTML.rglob("*.html"))
    if "_static" not in path.parts
}
# index.html only leads on to the first chapter.
PAGES = [page for page, text in TEXTS.items() if "http-equiv" not in text or "Refresh" not in text]
CHARTS = {page: TEXTS[page].count('class="vegtts-chart"') for page in PAGES}
FORMULAS = {page: TEXTS[page].count("math notranslate") for page in PAGES}


@pytest.fixture(scope="module")
def browser():
    executable = find_chromium()
    if executable is None:
        pytest.fail("Chromium is not installed: install it (Debian: apt-get install chromium).", pytrace=False)
    with chromium(executable) as opened:
        yield opened


@pytest.fixture(scope="module")
def base():
    with served(HTML) as address:
        yield address


def test_the_book_is_there(browser):
    if not PAGES:
        pytest.fail("There is no book in book/_build/html: build it with `make book SOURCE=recorded`.", pytrace=False)
    assert sum(CHARTS.values()) > 0
    assert sum(FORMULAS.values()) > 0


def test_index_leads_to_the_first_chapter(browser, base):
    with visit(browser, base, "", WIDE) as visited:
        visited.page.wait_for_url("**/chapters/*.html", timeout=10_000)
        assert visited.foreign == []


def drawn(visited: Visit, part: str) -> list[bool]:
    """Whether the picture of each chart in ``part`` is visible, has a size and has marks."""
    script = """(charts) => charts.map((chart) => {
        const svg = chart.querySelector("svg");
        if (!svg) return false;
        const box = svg.getBoundingClientRect();
        return box.width > 100 && box.height > 50 && svg.querySelectorAll("path, line, text").length > 5;
    })"""
    return visited.page.eval_on_selector_all(part, script)


def assert_quiet(visited: Visit) -> None:
    assert visited.foreign == [], "requests left the machine"
    assert visited.failed == [], "files are missing"
    assert visited.errors == [], "errors on the console"


def assert_fits(visited: Visit, width: int) -> None:
    assert visited.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visited.page.evaluate("document.querySelector('.bd-article, main, body').scrollWidth") <= width


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("page", PAGES)
def test_with_scripts(browser, base, page, width):
    with visit(browser, base, page, width) as visited:
        assert drawn(visited, ".vegtts-chart .vegtts-live") == [True] * CHARTS[page]
        states = visited.page.eval_on_selector_all(".vegtts-chart", "(charts) => charts.map((c) => c.dataset.state)")
        assert states == ["live"] * CHARTS[page]
        formulas = visited.page.eval_on_selector_all(
            "mjx-container", "(all) => all.map((one) => one.querySelectorAll('svg use, svg path').length > 0)"
        )
        assert len(formulas) >= FORMULAS[page]
        assert all(formulas)
        assert visited.page.locator("merror, [data-mjx-error]").count() == 0
        assert_fits(visited, width)
        assert_quiet(visited)


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("page", [page for page in PAGES if CHARTS[page]])
def test_without_scripts(browser, base, page, width):
    with visit(browser, base, page, width, scripts=False) as visited:
        pictures = visited.page.locator(".vegtts-chart .vegtts-picture svg")
        assert pictures.count() == CHARTS[page]
        for index in range(pictures.count()):
            box = pictures.nth(index).bounding_box()
            assert box and box["width"] > 100 and box["height"] > 50
        assert_quiet(visited)


@pytest.mark.parametrize("page", [page for page in PAGES if CHARTS[page]])
def test_hovering_shows_values(browser, base, page):
    with visit(browser, base, page, WIDE) as visited:
        charts = visited.page.locator(".vegtts-chart")
        shown = [charts.nth(index) for index in range(charts.count()) if not is_diagram(charts.nth(index))]
        shown[0].locator(".vegtts-live .mark-symbol.role-mark path").first.hover(force=True)
        visited.page.wait_for_selector("#vg-tooltip-element.visible", timeout=10_000)


def is_diagram(chart) -> bool:
    """Whether a chart has no scale that a reader sees, and so no values."""
    return chart.locator(".vegtts-live .role-axis").count() == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_and_images(browser, base, page):
    """Links within the book lead to a page and a place that exist; images have loaded."""
    with visit(browser, base, page, WIDE) as visited:
        links = visited.page.eval_on_selector_all("a[href]", "(all) => all.map((a) => a.getAttribute('href'))")
        broken = visited.page.eval_on_selector_all(
            "img", "(all) => all.filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.src)"
        )
        assert broken == []
    missing = [link for link in links if not reached(base, page, link)]
    assert missing == []


def reached(base: str, page: str, link: str) -> bool:
    """Whether ``link`` on ``page`` is to another site, or to something that is there."""
    address, place = urldefrag(urljoin(base + page, link))
    if not address.startswith(base):
        return True
    target = HTML / unquote(address.removeprefix(base).split("?")[0])
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return False
    text = TEXTS.get(target.relative_to(HTML).as_posix())
    return not place or text is None or f'id="{unquote(place)}"' in text
