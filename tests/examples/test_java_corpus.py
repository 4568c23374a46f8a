"""The example that lays Java sources out like java-small."""

import importlib.util
import io
import tarfile
from pathlib import Path

import pytest

from ablations.naming.config import Config, Data
from ablations.naming.data import load_data

SCRIPT = Path(__file__).parents[2] / "examples" / "java_corpus" / "lay_out.py"
spec = importlib.util.spec_from_file_location("lay_out", SCRIPT)
lay_out = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lay_out)


def java(name: str, number: int = 1) -> str:
    return f"class {name} {{ int get{name}() {{ return {number}; }} }}\n"


@pytest.fixture
def sources(tmp_path) -> Path:
    """Three projects: a folder with files of the same name, another folder, and an archive as Debian names them."""
    root = tmp_path / "sources"
    for name, text in {
        "alpha/src/main/Stack.java": java("Stack", 1),
        "alpha/src/other/Stack.java": java("Stack", 2),
        "alpha/src/other/stack.java": java("Stack", 3),
        "alpha/src/other/Stack_2.java": java("Own"),
        "alpha/README": "no java",
        "beta/Queue.java": java("Queue"),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "alpha" / "Link.java").symlink_to("/etc/passwd")
    archive(root / "gamma_1.2-3.orig.tar.xz", {"gamma-1.2/a/Heap.java": java("Heap")})
    return root


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:xz") as opened:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            opened.addfile(info, io.BytesIO(text.encode()))
    return path


def run(out: Path, training, validation, test) -> int:
    return lay_out.main([str(out), "--training", *training, "--validation", *validation, "--test", *test])


def test_folders_and_archives_become_a_corpus_that_the_study_reads(sources, tmp_path, capsys):
    out = tmp_path / "data" / "java"
    code = run(
        out, [str(sources / "alpha")], [f"renamed={sources / 'beta'}"], [str(sources / "gamma_1.2-3.orig.tar.xz")]
    )
    assert code == 0
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.java")) == [
        "test/gamma/Heap.java",
        "training/alpha/Stack.java",
        "training/alpha/Stack_2.java",
        "training/alpha/Stack_3.java",
        "training/alpha/stack_4.java",
        "validation/renamed/Queue.java",
    ]
    assert (out / "training/alpha/Stack_2.java").read_text() == java("Own")
    assert (out / "training/alpha/Stack_3.java").read_text() == java("Stack", 2)
    assert "training/alpha: 4 files, 2 of them numbered" in capsys.readouterr().out
    assert not list(out.parent.glob(".lay_out-*"))
    data = load_data(Config(data=Data(corpus="java-small", path=str(out))), tmp_path / "cache")
    assert data.facts["counts"] == {"train": 4, "validation": 1, "test": 1}
    assert data.facts["projects"]["test"] == ["test/gamma"]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (["none"], "there is no"),
        (["alpha/README"], "expected a folder or an archive"),
        (["empty"], "expected .java files, found none"),
        (["beta"], "two projects are called 'beta'"),
        (["../sources/..=alpha"], "is no name for a folder"),
        (["evil.tar.xz"], "leads out of the archive"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(sources, tmp_path, capsys, training, message):
    (sources / "empty").mkdir()
    archive(sources / "evil.tar.xz", {"../Evil.java": java("Evil")})
    given = [each if "=" in each else str(sources / each) for each in training]
    assert run(tmp_path / "out", given, [str(sources / "beta")], [str(sources / "gamma_1.2-3.orig.tar.xz")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".lay_out-*"))


def test_a_folder_that_is_there_is_never_written_to(sources, tmp_path, capsys):
    beta = [str(sources / "beta")]
    assert run(sources, beta, beta, beta) == 1
    assert "is there already" in capsys.readouterr().err
