"""What the rules of the report ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

import os


def report_templates():
    """Templates of the report, which are not Python and so count as inputs."""
    folder = Path(workflow.basedir, "scripts/t2i/report/templates")
    return sorted(os.path.relpath(path) for path in folder.iterdir())
