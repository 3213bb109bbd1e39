"""What tests of the report ask of a page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any


class Elements(HTMLParser):
    """Every start tag with its attributes, all text, and that of `data` elements with its value."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.numbers: list[tuple[float, str]] = []
        self._value: float | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self._value = float(dict(attrs)["value"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._value is not None:
            self.numbers.append((self._value, data))
            self._value = None


def part(page: str, name: str) -> str:
    """One section of a page."""
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def leaves(value: Any) -> list[Any]:
    """All values at the ends of nested dicts and lists."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]
