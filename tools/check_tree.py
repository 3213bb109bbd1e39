"""Check a submission tree by this workflow's rules: python tools/check_tree.py TREE [RUN].

TREE holds closed/ or open/. RUN is the folder of the variant that it was made of, such as
results/mlperf/fp16: then every file of the tree has to be the file of the run. Without RUN, that
folder is taken where TREE lies in one. Ends with 1 where a check fails.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.check import FAIL
from t2i.prompts.captions import read_captions
from t2i.submission.discover import judge_tree, run_of, summary


def main() -> int:
    """Check the tree of the command line; the status to end with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="the folder that holds closed/ or open/")
    parser.add_argument("run", type=Path, nargs="?", help="the variant's folder that made it")
    parser.add_argument("--captions", type=Path, help="captions.tsv of the data set")
    arguments = parser.parse_args()
    run = arguments.run or run_of(arguments.tree)
    captions = None
    if arguments.captions is not None:
        captions = [row.caption for row in read_captions(arguments.captions)]
    try:
        checks = judge_tree(arguments.tree, run, captions)
    except (OSError, ValueError) as error:
        print(f"cannot be checked: {error}", file=sys.stderr)
        return 2
    print(summary(checks, run is not None))
    return int(any(check.verdict == FAIL for check in checks))


if __name__ == "__main__":
    sys.exit(main())
