"""Debian's Chromium under Playwright, and what tests of a page ask of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from debian import install

VARIABLE = "T2I_BROWSER"
SERIOUS = ("serious", "critical")


def missing() -> str | None:
    """Why there is no browser, None where there is; installs Chromium where that is asked."""
    if not all(find_spec(name) for name in ("playwright", "axe_playwright_python")):
        return "Playwright is not installed (make browser)"
    if shutil.which("chromium") is None and os.environ.get(VARIABLE) == "install":
        install("chromium")
    if shutil.which("chromium") is None:
        return f"no chromium ({VARIABLE}=install installs Debian's, as root)"
    return None


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser, which is closed with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


def violations(page: Any) -> list[str]:
    """What axe-core finds that is serious or worse, with the first place of each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in SERIOUS
    ]


def wide_parts(page: Any, allowed: str) -> list[str]:
    """Elements that are wider than what holds them, but for those that match `allowed`."""
    script = """(allowed) => {
      const found = [];
      if (document.documentElement.scrollWidth > innerWidth) found.push("the page");
      for (const each of document.querySelectorAll("body *")) {
        const holds = each.matches("td, th")  // else its text would lie on its neighbour's
          || !["visible", "clip"].includes(getComputedStyle(each).overflowX);
        if (holds && each.scrollWidth > each.clientWidth + 1 && !each.matches(allowed))
          found.push(each.outerHTML.slice(0, 120));
      }
      return found;
    }"""
    found: list[str] = page.evaluate(script, allowed)
    return found
