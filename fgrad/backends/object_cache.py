"""Machine code kept on disk between processes.

One file an entry: a mark, the SHA-256 of the content, the content. Files are written beside their
place and renamed into it, so readers see all of an entry or nothing; a damaged one counts as
absent and is written anew. The folder holds at most `LIMIT_BYTES`; entries not used for longest go.
"""

import contextlib
import hashlib
import os
import stat
import sys
import threading
import warnings
from pathlib import Path

LIMIT_BYTES = 256 << 20
_MARK = b"fgrad object 1\n"
_HEAD = len(_MARK) + hashlib.sha256().digest_size


def default_folder(backend: str) -> Path | None:
    """Where a backend's entries are kept: below `FGRAD_CACHE_DIR`, or the user's cache folder."""
    own = os.environ.get("FGRAD_CACHE_DIR")
    if own:
        return Path(own) / backend
    shared = os.environ.get("XDG_CACHE_HOME")
    if sys.platform == "win32":
        shared = shared or os.environ.get("LOCALAPPDATA")
    if shared:
        return Path(shared) / "fgrad" / backend
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home
        return None
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return home / caches / "fgrad" / backend


class ObjectCache:
    """Entries by key, on disk.

    Args:
        folder: Made when the first entry is written. None: nothing is kept.
        limit_bytes: The most that all entries may take, but for what was written since they were
            last looked at.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._reported = False
        self._checked = False
        self._written = 0  # bytes, since all entries were last looked at

    def get(self, key: str) -> bytes | None:
        """The entry of a key (a name that a file can have), or None."""
        folder = self._ready()
        if folder is None:
            return None
        path = folder / key
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(error)
            return None
        content = data[_HEAD:]
        if data[:_HEAD] != _MARK + hashlib.sha256(content).digest():
            self.drop(key)
            return None
        with contextlib.suppress(OSError):  # only the order of eviction depends on it
            os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry; one of the same key is replaced."""
        folder = self._ready()
        if folder is None:
            return
        part = folder / f".{key}.{os.getpid()}.{threading.get_ident()}"
        try:
            part.write_bytes(_MARK + hashlib.sha256(content).digest() + content)
            part.replace(folder / key)
            self._written += len(content)
            # Looking at all entries takes longer than writing one. Processes that write little look
            # by chance, one time in sixteen: keys are random.
            if self._written > self.limit_bytes // 64 or key.startswith("0"):
                self._written = 0
                self._evict(folder)
        except OSError as error:
            self._report(error)
            with contextlib.suppress(OSError):
                part.unlink()

    def drop(self, key: str) -> None:
        """Remove an entry, if it is there."""
        folder = self.folder
        if folder is not None:
            with contextlib.suppress(OSError):
                (folder / key).unlink()

    def _ready(self) -> Path | None:
        """The folder, if there is one that may be trusted: looked at before its first use.

        Another thread may give it up at any time.
        """
        folder = self.folder
        if folder is None or self._checked:
            return folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Code from a folder that everyone can write to could be anyone's.
            if os.name == "posix" and folder.stat().st_mode & stat.S_IWOTH:
                self._report(f"{folder} can be written to by every user")
                return None
        except OSError as error:
            self._report(error)
            return None
        self._checked = True
        return folder

    def _evict(self, folder: Path) -> None:
        """Remove the entries used least recently until three quarters of the limit are left."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    info = entry.stat()
                    found.append((info.st_mtime_ns, info.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        if total <= self.limit_bytes:
            return
        for _, size, path in sorted(found):
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            total -= size
            if total <= self.limit_bytes * 3 // 4:
                break

    def _report(self, error: OSError | str) -> None:
        """Say once that nothing is kept, and go on without."""
        self.folder = None
        if not self._reported:
            self._reported = True
            warnings.warn(
                f"fgrad keeps no machine code on disk, so every process compiles anew: {error}; "
                f"set FGRAD_CACHE_DIR to a folder of your own",
                RuntimeWarning,
                stacklevel=2,
            )
