"""Makes processes fail where T2I_FAULTS says: a file of the faults, each with its path and place.

Python imports this module at its start when its folder is in PYTHONPATH. A fault happens once, to
the first process that comes by: at the opening for writing, the flushing or the renaming of a file,
which is known by the name it will have.
"""

import errno
import json
import os
import re
import signal
import sys
from pathlib import Path

PART = re.compile(r"(^|/)\.([^/]+)\.(?:[0-9]+|[0-9a-f]{12})\.(?:part|unfinished)(?=/|$)")
FAULTS = os.environ.get("T2I_FAULTS")


def happen(operation, path, when="before"):
    """Fail, if this is the place of a fault that has not happened yet."""
    name = PART.sub(r"\1\2", os.path.relpath(os.fsdecode(path), ROOT))
    parts = name.split("/")
    for length in range(len(parts), 0, -1):
        fault = TABLE.get("/".join(parts[:length]))
        if fault and (fault["operation"], fault["when"]) == (operation, when):
            break
    else:
        return
    mark = f"{FAULTS}.{fault['number']}"
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    if fault["action"].startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, fault["action"]))
    else:
        number = getattr(errno, fault["action"])
        raise OSError(number, os.strerror(number), name)


if FAULTS:
    TABLE = json.loads(Path(FAULTS).read_text())
    ROOT = Path(FAULTS).parent
    real_replace, real_fsync = os.replace, os.fsync

    def replace(source, target, **others):
        """os.replace with its faults."""
        happen("replace", target)
        real_replace(source, target, **others)
        happen("replace", target, "after")

    def fsync(descriptor):
        """os.fsync with its faults."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        happen("fsync", Path(f"/proc/self/fd/{number}").readlink())
        real_fsync(descriptor)

    def opened(event, arguments):
        """Faults of opening for writing."""
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                happen("open", arguments[0])

    os.replace, os.fsync = replace, fsync
    sys.addaudithook(opened)
