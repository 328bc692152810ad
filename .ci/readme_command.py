"""Prints one of the two commands that stand at the top of README.md, so that CI runs just those.

python .ci/readme_command.py main    installs and runs the main job
python .ci/readme_command.py test    installs and runs the tests
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
NAMES = ("main", "test")


def commands(readme: str) -> dict[str, str]:
    """The two commands, by name, from the README's first fenced block.

    Args:
        readme: The text of README.md.

    Returns:
        ``{"main": ..., "test": ...}``, one shell command line each.

    Raises:
        ValueError: The first fenced block does not hold exactly two command lines.
    """
    block = re.search(r"^```(?:sh|bash|console)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    lines = block.group(1).splitlines() if block else []
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(found) != len(NAMES):
        raise ValueError(
            f"the first fenced shell block of README.md must hold {len(NAMES)} commands "
            f"({', '.join(NAMES)}), got {len(found)}: {found}"
        )
    return dict(zip(NAMES, found, strict=True))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: readme_command.py {'|'.join(NAMES)}")
    print(commands(README.read_text(encoding="utf-8"))[sys.argv[1]])
