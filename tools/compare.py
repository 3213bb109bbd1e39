"""Compare finished runs: tools/compare.py results/A results/B ...

Each argument is a run's folder, or a copy of one from elsewhere. The first variant of the first run
is what the others are compared with.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.files import write_json, write_text
from t2i.report.page import render_runs
from t2i.report.runs import as_text, read_run, side_by_side

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
parser.add_argument("--page", type=Path, help="write an HTML page")
parser.add_argument("--json", type=Path, help="write everything unrounded")
options = parser.parse_args()
try:
    found = side_by_side([each for folder in options.folders for each in read_run(folder)])
except FileNotFoundError as error:
    sys.exit(f"{error.filename}: not found; is this the folder of a finished run?")
except (OSError, ValueError, KeyError) as error:
    sys.exit(f"cannot compare: {error}")
print(as_text(found))
if options.json:
    write_json(options.json, found)
if options.page:
    write_text(options.page, render_runs(found))
