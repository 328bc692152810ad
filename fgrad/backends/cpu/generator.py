"""The version of the code generator: what of this machine's cached code it has made.

It is a hash of the generator's source, and of what says in which order a kernel computes. To read
all of that takes longer than to load the code of a program, so the hash is kept beside the code,
under what the system says of the files: their places, sizes, and times of change, which nobody can
set. An edit changes these.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from fgrad.backends.object_cache import ObjectCache
from fgrad.compile import kernel

FOLDER = Path(__file__).parent
OTHERS = (Path(kernel.__file__),)
_SETTLED_NS = 2_000_000_000  # clocks of file systems may be this coarse


def version(cache: ObjectCache, folder: Path = FOLDER, others: Sequence[Path] = OTHERS) -> str:
    """The hash of the source.

    Args:
        cache: Where it is kept.
        folder: Where the source is.
        others: Further files of it.
    """
    seen, newest = _state(folder, others)
    kept = cache.get(seen) if seen else None
    if kept is not None:
        return kept.decode()
    found = hashlib.sha256()
    for path in (*sorted(folder.rglob("*.py")), *filter(Path.is_file, others)):
        found.update(path.read_bytes())
    key = found.hexdigest()
    # What has just changed might change once more, at what is the same time to the file system.
    if seen and newest < time.time_ns() - _SETTLED_NS and _state(folder, others)[0] == seen:
        cache.put(seen, key.encode())
    return key


def _state(folder: Path, others: Sequence[Path]) -> tuple[str, int]:
    """A name for the state of files and those below a folder, and when the last has changed.

    The name is empty where the system does not tell when files were changed, or says the same of
    all of them, as of images whose times were set.
    """
    found: list[tuple[str, int, int, int, int, int]] = []
    waiting = [str(folder)]

    def look(path: str, s: os.stat_result) -> None:
        found.append((path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))

    try:
        for other in others:
            look(str(other), other.stat())
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        look(entry.path, entry.stat())
                    elif entry.name != "__pycache__" and entry.is_dir():
                        waiting.append(entry.path)
    except OSError:  # not in a folder, or being replaced
        return "", 0
    changes = {state[-1] for state in found}
    if os.name != "posix" or len(changes) < 2:
        return "", 0
    return hashlib.sha256(f"sources {sorted(found)}".encode()).hexdigest(), max(changes)
