import os
import time
from pathlib import Path

from t2i.job.dates import from_the_future


def test_a_file_from_the_future_is_named_with_its_mend(tmp_path: Path) -> None:
    names = ("past", "now", "a minute off", "tomorrow")
    for name, later in zip(names, (-1e6, 0, 30, 86400), strict=True):
        path = tmp_path / name
        path.touch()
        os.utime(path, (time.time() + later,) * 2)
    (line,) = from_the_future([*(tmp_path / name for name in names), tmp_path / "absent"])
    assert line.startswith(f"{tmp_path}/tomorrow is dated 2")
    assert line.endswith(f"which is later than now: touch {tmp_path}/tomorrow")
