"""Puts the placeholders of ``_generated/`` back, so that a render leaves no change behind in the checkout."""

import os
from pathlib import Path

STUB = "*This part is written when the report is rendered.*\n"


def main() -> None:
    if os.environ.get("ABLATIONS_FRAGMENTS") == "written":
        return
    for path in (Path(__file__).resolve().parent / "_generated").glob("*.qmd"):
        path.write_text(STUB, encoding="utf-8")


if __name__ == "__main__":
    main()
