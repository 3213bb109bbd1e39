"""Pin the shipped models in the table of inputs: size and sha256 of each of their files.

To be run in the project's folder after a change of models/. Only the models' own groups change.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base import embedded
from t2i.base.files import write_text
from t2i.fetch.edit import group_text, shipped_files, with_group

LICENCE = "Apache-2.0 (trained by this project on its own drawn pictures)"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", nargs="?", type=Path, default=Path("models"), help="%(default)s")
parser.add_argument("--table", type=Path, default=Path("config/sources.yaml"), help="%(default)s")
arguments = parser.parse_args()
table = arguments.table.read_text(encoding="utf-8")
for group in (embedded.MODEL, embedded.CLIP):
    folder = arguments.folder / group
    address = f"file:{folder.as_posix()}/{{path}}"
    table = with_group(table, group, group_text(group, LICENCE, address, shipped_files(folder)))
write_text(arguments.table, table)
