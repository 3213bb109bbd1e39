"""What the page on troubles quotes is what this project says."""

import re

from workflow_run import PROJECT

QUOTED = re.compile(r"`([^`]+)`")
OTHERS = ("CUDA out of memory", "Directory cannot be locked")  # torch's and Snakemake's
SOURCES = ("scripts/**/*.py", "rules/**/*.smk", "scripts/**/*.jinja", "Makefile", "scripts/*.py")


def test_quoted_messages_are_real():
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    text = "\n".join(
        path.read_text() for pattern in SOURCES for path in sorted(PROJECT.glob(pattern))
    )
    said = re.sub(r'"\s*\n\s*f?"', "", text)  # a message over several lines of code
    seen = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    quoted = [words for cell in seen for words in QUOTED.findall(cell) if words not in OTHERS]
    assert len(quoted) >= 12
    assert [words for words in quoted if words not in said] == []
