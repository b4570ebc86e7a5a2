"""Write the generated parts of docs/ anew; a test fails where somebody forgot to.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; everything else in the pages is
written by hand and stays as it is.
"""

import re
import sys
from pathlib import Path

from app.local import console
from app.reference.tables import SECTIONS

DOCS = Path(__file__).parents[2] / "docs"
_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def refreshed(page: str) -> str:
    """Return the page with its generated parts as the code has them now; raises KeyError for an unknown name."""
    return _PART.sub(lambda match: f"{match[1]}\n{SECTIONS[match[2]]()}\n\n{match[3]}", page)


def names_in(page: str) -> list[str]:
    """Return the names of the generated parts of a page."""
    return [match[2] for match in _PART.finditer(page)]


def main() -> int:
    """Refresh every page below docs/ and say which ones changed."""
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text()
        after = refreshed(before)
        if after != before:
            path.write_text(after)
            console.tell(f"written: docs/{path.relative_to(DOCS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
