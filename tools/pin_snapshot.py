"""Print an entry for config/sources.yaml that pins a model snapshot of MLCommons as it is today.

Nothing but sizes and digests is fetched. Read what is printed, compare the digests with another
source if there is one, put it into config/sources.yaml and name GROUP as `model`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.fetch.http import HttpClient, TransferError
from t2i.fetch.snapshots import SnapshotError, file_size, read_snapshot, table_entry
from t2i.fetch.transfer import Limits

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument(
    "address",
    help="https address of the .uri file, such as https://inference.mlcommons-storage.org/"
    "metadata/stable-diffusion-xl-1-0-fp16-checkpoint.uri",
)
parser.add_argument("group", help="name for the model, such as sdxl-mlc-fp16")
parser.add_argument("--licence", default="CreativeML Open RAIL++-M", help="default: %(default)s")
arguments = parser.parse_args()
limits = Limits()
try:
    with HttpClient(limits.silence) as client:
        snapshot = read_snapshot(client, arguments.address, limits)
        sizes = {
            name: file_size(client, f"{snapshot.base}/{path}")
            for name, (path, _) in snapshot.files.items()
        }
    print(table_entry(arguments.group, arguments.licence, snapshot, sizes), end="")
except (SnapshotError, TransferError) as error:
    sys.exit(f"{error}")
