"""Take a variant's results as the demo's reference: print its windows, keep its ten images.

To be run in the project's folder after a change of models/, on a finished run of the demo. The
images go to models/micro-sdxl/reference_images; the windows belong into config/config.yaml and
config/quality.yaml.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.files import publish_folder, read_json
from t2i.compliance.windows import demo_windows, reference_name

IMAGES = Path("models/micro-sdxl/reference_images")

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument(
    "variant", nargs="?", type=Path, default=Path("results/demo/fp32"), help="%(default)s"
)
arguments = parser.parse_args()
with publish_folder(IMAGES) as folder:
    for path in sorted((arguments.variant / "compliance_images").glob("*.png")):
        (folder / reference_name(int(path.stem))).write_bytes(path.read_bytes())
print(demo_windows(read_json(arguments.variant / "metrics.json"), IMAGES), end="")
