"""Makes the README's picture: two pages of a study's report, the answer and the main table, side by side.

    python scripts/readme_picture.py --study study.yaml --profile cpu-whole --results results/reference \
        --out docs/images/report.png

The same results give the same bytes. Nothing is written into the results folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import typst

from ablations.reporting import builtin, fragments
from ablations.reporting.context import load_context
from ablations.reporting.render import copy_project, project_of

PIXELS_PER_INCH = 80.0
PAIR = """#set page(width: auto, height: auto, margin: 8pt, fill: rgb("#d5dae0"))
#grid(columns: 2, gutter: 8pt, image("first.svg"), image("second.svg"))
"""
WHERE = "\n#context [#metadata(locate(<tbl-main>).page())<where>]\n"


def draw(study: Path, results: Path, profile: str | None = None) -> bytes:
    """The picture as PNG.

    Args:
        study: The study file.
        results: The folder of its runs.
        profile: Name of a profile, or None for the one that fits the machine.
    """
    ctx = load_context(study, results, profile)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = folder / "project"
        copy_project(project_of(study), project)
        fragments.write(ctx, project / "_generated")
        builtin.render(project, folder, ("pdf",), {"title": ctx.study.name, "epoch": ctx.epoch})
        source = project / "report.typ"
        pages = typst.compile(str(source), root=str(project), format="svg")
        with open(source, "a", encoding="utf-8") as file:
            file.write(WHERE)
        (at,) = json.loads(typst.query(str(source), "<where>", root=str(project), field="value"))
        (folder / "first.svg").write_bytes(pages[0])
        (folder / "second.svg").write_bytes(pages[max(at, 2) - 1])
        (folder / "pair.typ").write_text(PAIR, encoding="utf-8")
        made: bytes = typst.compile(str(folder / "pair.typ"), root=str(folder), format="png", ppi=PIXELS_PER_INCH)
        return made


def main() -> None:
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("study.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results/reference"))
    parser.add_argument("--profile", default=None)
    parser.add_argument("--out", type=Path, default=Path("docs/images/report.png"))
    given = parser.parse_args()
    picture = draw(given.study, given.results, given.profile)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(picture)
    print(f"{given.out}: {len(picture) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
