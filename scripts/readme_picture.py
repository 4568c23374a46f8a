"""Makes the README's picture: two pages of a study's report, the answer and the forest plot, side by side.

    python scripts/readme_picture.py --study study.yaml --profile cpu-whole --results results/reference \
        --out docs/images/report.png

The same results give the same bytes. Nothing is written into the results folder.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typst
from PIL import Image

from ablations.reporting import builtin, fragments
from ablations.reporting.context import load_context
from ablations.reporting.render import copy_project, project_of

PIXELS_PER_INCH = 80.0
GAP, GROUND = 9, "#d5dae0"  # pixels around the pages, and their colour
WHERE = "\n#context [#metadata(locate(<fig-forest>).page())<where>]\n"


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
        pages = typst.compile(str(source), root=str(project), format="png", ppi=PIXELS_PER_INCH)
        with open(source, "a", encoding="utf-8") as file:
            file.write(WHERE)
        (at,) = json.loads(typst.query(str(source), "<where>", root=str(project), field="value"))
        return side_by_side([pages[0], pages[max(at, 2) - 1]])


def side_by_side(pages: Sequence[Any]) -> bytes:
    """Pages, as PNG, on one picture of 256 colours: that halves its size."""
    drawn = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages]
    width, height = sum(each.width + GAP for each in drawn) + GAP, max(each.height for each in drawn) + 2 * GAP
    picture, left, made = Image.new("RGB", (width, height), GROUND), GAP, io.BytesIO()
    for each in drawn:
        picture.paste(each, (left, GAP))
        left += each.width + GAP
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


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
