"""Pack submissions: python tools/pack_submission.py PACKAGE.tar.gz VARIANT [VARIANT ...].

VARIANT is a variant's folder, such as results/mlperf/fp16. Systems and divisions may differ. Every
tree is checked again beside its run; nothing is packed that does not pass.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.files import sha256_file
from t2i.submission.package import pack


def main() -> int:
    """Pack what the command line names; the status to end with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="the .tar.gz to write")
    parser.add_argument("variants", type=Path, nargs="+", help="folders of variants")
    arguments = parser.parse_args()
    try:
        names = pack(arguments.variants, arguments.package)
    except (OSError, ValueError) as error:
        print(f"not packed: {error}", file=sys.stderr)
        return 1
    print(f"{sha256_file(arguments.package)}  {arguments.package} ({len(names)} files)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
