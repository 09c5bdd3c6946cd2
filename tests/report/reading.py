"""A page as a reader sees it: its text, its parts, and that it asks for nothing from elsewhere."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text in them); fails where a tag is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.source, self.elements, self._open = text, [], []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        row = [tag, dict(attrs), ""]
        self.elements.append(row)
        if tag not in VOID:
            self._open.append(row)

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for row in self._open:
            row[2] += data

    def all(self, tag: str, class_: str | None = None) -> list[list]:
        """Every element of a kind."""
        return [row for row in self.elements if row[0] == tag and class_ in (None, *row[1].get("class", "").split())]

    @property
    def text(self) -> str:
        (body,) = self.all("body")
        return re.sub(r"\s+", " ", body[2])

    def needs_nothing(self) -> bool:
        """No picture, style, script or font from another file."""
        named = [value for _, given, _ in self.elements for key, value in given.items() if key in ("src", "href")]
        outside = [value for value in named if not value.startswith(("#", "data:"))]
        return not outside and "@import" not in self.source and "url(http" not in self.source
