"""HTML in pieces: text never becomes markup."""

from report.reading import Page
from storylm.report.html import Html, details, element, joined, page, section, table


def test_text_is_escaped_and_html_is_not() -> None:
    assert element("p", "a < b & ", element("b", "c")) == "<p>a &lt; b &amp; <b>c</b></p>"
    assert element("a", "x", title='"><script>', class_="y", data_x=None) == (
        '<a title="&quot;&gt;&lt;script&gt;" class="y">x</a>'
    )
    assert joined(["<", Html("<br>")]) == "&lt;<br>"


def test_a_page_is_whole_and_needs_nothing() -> None:
    story = "<script>alert(1)</script>"
    rows = table(("name", "figure"), [(story, "1.0")], numbers=(1,))
    seen = Page(page(story, story, section(story, story, rows, details(story, story)), script=True))
    assert seen.needs_nothing()
    assert len(seen.all("script")) == 1  # our own
    assert seen.text.count(story) == 7  # the script's own text is none of these
    assert [cell[1].get("class") for cell in seen.all("td")] == [None, "number"]
    assert "prefers-color-scheme: dark" in seen.source
    assert "width=device-width" in seen.source
