"""Why the submission checker breaks off: it reads a tree before it checks it."""

from __future__ import annotations

import re

BUILD = "build the tree again; do not edit it by hand"

# The last line of the traceback, or of a usage text: (pattern, meaning, what to do).
CRASHES = tuple(
    (re.compile(pattern, re.MULTILINE), meaning, mend)
    for pattern, meaning, mend in (
        (
            "No module named 'yaml'",
            "The checker needs PyYAML, which this Python lacks.",
            "run in the workflow's own environment",
        ),
        (
            "No module named",
            "A module that the checker needs is not there.",
            "fetch the checkout again, or run in the workflow's own environment",
        ),
        (
            "invalid choice: .* --version|--version: invalid choice",
            "This checker does not know the round.",
            "set round to one that it knows, or take a newer checkout",
        ),
        (
            "TypeError: 'NoneType' object is not iterable",
            "The checker has no list of scenarios for this benchmark and system type: from v6.0 on "
            "text-to-image is no datacenter benchmark of the closed division.",
            "set submission.system_type to edge, round to v5.1, or division to open",
        ),
        (
            "TypeError: 'NoneType' object is not subscriptable",
            "The performance or the accuracy run's detail log is not there.",
            BUILD,
        ),
        (
            "AttributeError: 'NoneType' object has no attribute",
            "systems/ lacks the description of a system that results/ has.",
            BUILD,
        ),
        ("ValueError: invalid system type", "system_type is not a known one.", BUILD),
        (
            "ValueError: invalid literal for int",
            "The system description's number_of_nodes or accelerators_per_node is no whole number.",
            "set it below submission.description as a whole number",
        ),
        (
            "RuntimeError: (Marker not found|Encountered invalid line)",
            "A detail log is not LoadGen's, or is damaged.",
            "run this mode again and build the tree again",
        ),
        ("JSONDecodeError", "A JSON file of the tree is damaged.", BUILD),
        (
            "(FileNotFoundError|NotADirectoryError)",
            "A folder that the round's layout has is not there: v5.0 and v5.1 have measurements/ "
            "and compliance/ beside results/, later rounds do not.",
            BUILD,
        ),
        ("PermissionError", "A file may not be read or written.", "see who owns the folders"),
        ("KeyError", "A value that the checker reads is not there.", BUILD),
    )
)
