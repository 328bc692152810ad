"""A function's text, line by line."""

import contextlib
from collections.abc import Iterator


class Text:
    """Lines of CUDA C, indented by the blocks that are open."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def add(self, *lines: str) -> None:
        """Write lines."""
        self.lines += ["  " * self.depth + line for line in lines]

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A block in braces behind a head like ``for (…)``; nothing but braces if it is empty."""
        self.add(f"{head} {{".lstrip())
        self.depth += 1
        yield
        self.depth -= 1
        self.add("}")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"
