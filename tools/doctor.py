"""Say whether a run can begin here, and what to mend if not: tools/doctor.py [CONFIG] [KEY=VALUE].

The exit status is 0 for go and 1 for no go.
"""

import argparse
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.config.doctor import findings, report

ROOT = Path(__file__).resolve().parents[1]
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("config", type=Path, nargs="?", default=ROOT / "config/config.yaml")
parser.add_argument("given", nargs="*", help="KEY=VALUE, as after --config of snakemake")
options = parser.parse_args()
pairs = (text.partition("=") for text in options.given)
given = {key: yaml.safe_load(value) for key, _, value in pairs}
found = list(findings(ROOT, options.config, given))
print(report(found))
sys.exit(any(finding.mend is not None for finding in found))
