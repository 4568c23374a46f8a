"""After Quarto has rendered: a strict policy for the page, and the placeholders of ``_generated/`` put back."""

import os
from pathlib import Path

from prerender import use_environment

STUB = "*This part is written when the report is rendered.*\n"


def main() -> None:
    for name in os.environ.get("QUARTO_PROJECT_OUTPUT_FILES", "").splitlines():
        if name.endswith(".html"):
            close(Path(name))
    if os.environ.get("ABLATIONS_FRAGMENTS") == "written":
        return
    for path in (Path(__file__).resolve().parent / "_generated").glob("*.qmd"):
        path.write_text(STUB, encoding="utf-8")


def close(page: Path) -> None:
    try:
        from ablations.reporting.policy import with_policy
    except ModuleNotFoundError as error:
        use_environment(error, __file__)
    page.write_text(with_policy(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
