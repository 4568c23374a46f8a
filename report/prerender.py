"""Writes ``_generated/`` before Quarto renders: ``quarto render report`` needs nothing else.

Study, results and profile come from ABLATIONS_STUDY, ABLATIONS_RESULTS and ABLATIONS_PROFILE; by default they are
``../study.yaml``, ``../results`` and the profile that fits the machine.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    if os.environ.get("ABLATIONS_FRAGMENTS") == "written":  # `ablations report` has done so already
        return
    try:
        from ablations.reporting.context import load_context
        from ablations.reporting.fragments import write
        from ablations.reporting.typed import refuse_typed_numbers
    except ModuleNotFoundError as error:
        use_environment(error, __file__)
    refuse_typed_numbers(HERE)
    ctx = load_context(
        os.environ.get("ABLATIONS_STUDY") or HERE.parent / "study.yaml",
        os.environ.get("ABLATIONS_RESULTS") or HERE.parent / "results",
        os.environ.get("ABLATIONS_PROFILE") or None,
    )
    write(ctx, HERE / "_generated")


def use_environment(error: ModuleNotFoundError, script: str) -> None:
    """Starts a script again with the project's own environment, which Quarto's Python need not be."""
    for python in (HERE.parent / ".venv" / "bin" / "python", HERE.parent / ".venv" / "Scripts" / "python.exe"):
        if python.is_file() and python != Path(sys.executable):
            os.execv(python, [str(python), script])
    sys.exit(f"{error}: activate the environment that has `ablations`, or set QUARTO_PYTHON to its python")


if __name__ == "__main__":
    main()
