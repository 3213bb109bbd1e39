"""Say how far the newest run in the working folder has come: for a second shell."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.job.status import status

print(status(time.time()))
