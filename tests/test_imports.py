"""The order of the house: a row imports only rows above it, at the top of a module or inside a function."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ablations"
ROWS = [
    {"errors", "machine", "secrets", "pages", "stopping", "streams"},
    {"files"},
    {"handles"},
    {"claims", "index"},
    {"schema", "yamlfile", "spikes"},
    {"recorded"},
    {"experiments"},
    {"study_file", "executor_options"},
    {"drafts"},
    {"parts", "space"},
    {"resolve"},
    {"view"},
    {"study"},
    {"study_schema", "plan"},
    {"store"},
    {"metricslog", "sharing"},
    {"trials"},
    {"analysis"},
    {"standing", "packing", "upkeep"},
    {"reporting"},
    {"naming"},
    {"sacredconfig"},
    {"runner"},
    {"executors"},
    {"jobs"},
    {"launch"},
    {"chosen", "console", "looks", "search", "repetition", "recomputed", "sides", "completion"},
    {"commands", "tables", "verify", "diff", "explain", "authoring", "doctor"},
    {"importing"},
    {"api"},
    {"cli"},
]
BANNED = {
    "analysis": {"torch", "transformers", "datasets", "sacred", "matplotlib", "seaborn"},
    "reporting": {"torch", "transformers", "datasets", "sacred"},
    "executors": {"torch", "transformers", "datasets", "sacred", "analysis", "reporting", "naming"},
    "naming": {"analysis", "reporting"},
    "sacredconfig": {"torch", "transformers", "datasets", "analysis", "reporting", "naming"},
    "runner": {"torch", "transformers", "datasets", "analysis", "reporting", "naming"},
}
HOME = {
    "torch": {"naming"},
    "transformers": {"naming"},
    "datasets": {"naming"},
    "sacred": {"naming", "runner", "sacredconfig"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """(part of this package or None, outermost module) of every import, those for types alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "ablations":
            names = [f"ablations.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
        else:
            continue
        for name in names:
            outermost, _, rest = name.partition(".")
            yield (rest.split(".")[0] if outermost == "ablations" else None), outermost


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_rows_above_its_own(path):
    row_of = {part: number for number, row in enumerate(ROWS) for part in row}
    part = part_of(path)
    assert part in row_of, f"{part} has no row: give it one in {Path(__file__).name}"
    for own, outer in imports_of(path):
        if own and own not in (part, "__version__"):
            assert row_of[own] < row_of[part], f"{part} imports {own}, a row below its own"
        banned = BANNED.get(part, set())
        assert (own or outer) not in banned, f"{part} may not import {own or outer}"
        if not own and outer in HOME:
            assert part in HOME[outer], f"only {HOME[outer]} may import {outer}"


def test_the_check_sees_imports_inside_functions(tmp_path):
    module = tmp_path / "module.py"
    lines = ["def f():", "    import torch", "    from ablations import cli", "    from ablations.store import Store"]
    module.write_text("\n".join(lines))
    assert list(imports_of(module)) == [(None, "torch"), ("cli", "ablations"), ("store", "ablations")]
