"""Reproducible ablation studies: declare them in one file, run them over seeds, report conclusions that hold.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.analysis.compare import compare
    from ablations.analysis.conclude import conclude
    from ablations.analysis.examples import compare_examples
    from ablations.analysis.results import Comparison, Conclusion
    from ablations.analysis.table import Checkpoint, Columns
    from ablations.api import read_scores, render, run
    from ablations.errors import AblationsError, StudyError
    from ablations.plan import RunKey, Variant, expand
    from ablations.study import Ablation, Study, load_study

__version__ = "0.1.0"

_HOMES = {
    "Ablation": "study", "AblationsError": "errors", "Checkpoint": "analysis.table", "Columns": "analysis.table",
    "Comparison": "analysis.results", "Conclusion": "analysis.results", "RunKey": "plan", "Study": "study",
    "StudyError": "errors", "Variant": "plan", "compare": "analysis.compare", "compare_examples": "analysis.examples",
    "conclude": "analysis.conclude", "expand": "plan", "load_study": "study", "read_scores": "api", "render": "api",
    "run": "api",
}  # fmt: skip

__all__ = [
    "Ablation", "AblationsError", "Checkpoint", "Columns", "Comparison", "Conclusion", "RunKey", "Study", "StudyError",
    "Variant", "compare", "compare_examples", "conclude", "expand", "load_study", "read_scores", "render", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ablations' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ablations.{_HOMES[name]}"), name)
