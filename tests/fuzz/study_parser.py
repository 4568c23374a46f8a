"""What must hold of any bytes given as a study file; run by itself, a coverage-guided fuzzer of the study parser.

    pip install atheris                                          # Apache 2.0; Linux
    python tests/fuzz/study_parser.py -max_total_time=600 CORPUS # CORPUS: a folder of study files to start from

Ten minutes cover some 100,000 files a core. What it finds becomes an example in ``test_study_parser.py``.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

KEYS = (
    "study", "question", "experiment", "metric", "direction", "unit", "smallest_effect", "failure_value", "alpha",
    "correction", "seeds", "min_seeds", "looks", "baseline", "profiles", "ablations", "set", "sweep", "grid", "search",
    "space", "trials", "combine", "extends", "leave_one_out", "path", "order", "skip", "group", "expect", "family",
    "needs", "low", "high", "log", "choices", "min", "max", "step", "decoder", "layers", "decoder.layers", "training",
    "training.learning_rate", "schedule", "data.path", "a", "b", "a=1", "baseline ", "<<", "?",
)  # fmt: skip


def check(content: bytes) -> bool:
    """Loads a study file and checks what must hold, whatever it says; returns whether it was accepted.

    Raises:
        AssertionError: Something does not hold.
        Exception: Anything but a StudyError came out of the parser.
    """
    from ablations.errors import LONGEST_SHOWN, MOST_SHOWN, StudyError
    from ablations.study import load_study

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(content)
        try:
            study = load_study(path, "cpu" if b"cpu:" in content else None)
        except StudyError as error:
            lines = str(error).split("\n")
            assert error.problems, "refused without a word"
            assert len(lines) <= MOST_SHOWN + 1, f"{len(lines)} lines"
            assert all(line.isprintable() for line in lines), "the message acts on the terminal"
            assert all(len(line) < len(str(path)) + LONGEST_SHOWN + 200 for line in lines), "an endless line"
            return False
        finally:
            assert [each.name for each in Path(folder).iterdir()] == ["study.yaml"], "something was written"
        _check_accepted(study, Path(folder))
    return True


def _check_accepted(study: object, folder: Path) -> None:
    from ablations.plan import expand, run_keys
    from ablations.store import Store

    variants = expand(study)  # type: ignore[arg-type]
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names), "two variants of one name"
    hashes = [variant.config_hash for variant in variants if not variant.waits_for]
    assert len(set(hashes)) == len(hashes), "two variants of one config"
    for text in (*names, *(variant.label for variant in variants)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), f"{text!r}"
    for key in run_keys(study)[:5]:  # type: ignore[arg-type]
        assert Store(folder).run_dir(key.run_id).resolve().parent == (folder / "runs").resolve(), "leads out"


def main() -> None:
    """Fuzzes until it is stopped, or something does not hold."""
    import atheris

    with atheris.instrument_imports(include=["ablations", "ruamel"]):
        import ablations.plan
        import ablations.store
        import ablations.study  # noqa: F401

    def one(content: bytes) -> None:
        if b"experiment" not in content or b"naming.experiment:ex" in content:  # others would be imported
            check(content)

    atheris.Setup([*sys.argv, f"-dict={_dictionary()}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048"], one)
    atheris.Fuzz()


def _dictionary() -> Path:
    """The words of study files, as libFuzzer reads them."""
    path = Path(tempfile.gettempdir()) / "study-parser.dict"
    tokens = (*KEYS, ": ", "- ", "&a ", "*a", "!!python/object:os.system", "{", "}", "[", "]", "|\n", "---\n", "1e-4")
    path.write_text("".join(f'"{each.encode("unicode_escape").decode()}"\n' for each in tokens).replace("\\n", "\\x0A"))
    return path


if __name__ == "__main__":
    main()
