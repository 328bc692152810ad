"""The version of the code generator: what of this machine's cached code it has made.

It is a hash of the generator's source. To read all of that takes longer than to load the code of a
program, so the hash is kept beside the code, under what the system says of the files: their places,
sizes, and times of change, which nobody can set. An edit changes these.
"""

import hashlib
import os
import time
from pathlib import Path

from fgrad.backends.object_cache import ObjectCache

FOLDER = Path(__file__).parent
_SETTLED_NS = 2_000_000_000  # clocks of file systems may be this coarse


def version(cache: ObjectCache, folder: Path = FOLDER) -> str:
    """The hash of the source.

    Args:
        cache: Where it is kept.
        folder: Where the source is.
    """
    seen, newest = _state(folder)
    kept = cache.get(seen) if seen else None
    if kept is not None:
        return kept.decode()
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(path.read_bytes())
    key = found.hexdigest()
    # What has just changed might change once more, at what is the same time to the file system.
    if seen and newest < time.time_ns() - _SETTLED_NS and _state(folder)[0] == seen:
        cache.put(seen, key.encode())
    return key


def _state(folder: Path) -> tuple[str, int]:
    """A name for the state of the files below a folder, and when the last of them has changed.

    The name is empty where the system does not tell when files were changed, or says the same of
    all of them, as of images whose times were set.
    """
    found: list[tuple[str, int, int, int, int, int]] = []
    waiting = [str(folder)]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        s = entry.stat()
                        times = (s.st_size, s.st_mtime_ns, s.st_ctime_ns)
                        found.append((entry.path, s.st_dev, s.st_ino, *times))
                    elif entry.name != "__pycache__" and entry.is_dir():
                        waiting.append(entry.path)
    except OSError:  # not in a folder, or being replaced
        return "", 0
    changes = {state[-1] for state in found}
    if os.name != "posix" or len(changes) < 2:
        return "", 0
    return hashlib.sha256(f"sources {sorted(found)}".encode()).hexdigest(), max(changes)
