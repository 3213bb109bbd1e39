"""Print a run's results as a short table: tools/print_summary.py results/RUN."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.files import read_json
from t2i.report.summary import table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="folder of a finished run, such as results/demo")
folder = parser.parse_args().folder
if not (folder / "report.json").is_file():
    sys.exit(f"{folder}: there is no report.json; run the workflow first")
print(table(read_json(folder / "report.json")))
print(f"report: {folder / 'report.html'}")
