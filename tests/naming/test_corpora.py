import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ablations.errors import DataError
from ablations.naming import corpora
from ablations.naming.config import Config, Data
from ablations.schema import schema_of

STDLIB = {"asyncio/base_events.py", "textwrap.py", "json/__init__.py"}


def quiet(message):
    pass


def find(cache: Path, **options) -> corpora.Corpus:
    return corpora.find(Data(**options), cache, quiet)


def names(corpus: corpora.Corpus) -> list[str]:
    return [source.name for source in corpus.sources()]


def test_the_configs_choices_are_the_corpora_that_there_are():
    assert set(schema_of(Config).tunables["data.corpus"].choices) == set(corpora.corpora())


def test_an_unknown_corpus_is_named_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="unknown corpus 'python-stdlb'; did you mean 'python-stdlib'"):
        find(tmp_path, corpus="python-stdlb")


def test_finding_a_corpus_does_not_import_torch_or_transformers_or_datasets():
    program = (
        "import sys, pathlib\nfrom ablations.naming import corpora, data\nfrom ablations.naming.config import Data\n"
        "corpora.find(Data(), pathlib.Path('.'), print)\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'tokenizers', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- python-stdlib ----------------------------------------------------------------------------------------------


def test_the_standard_library_comes_without_tests_and_installed_packages(tmp_path):
    found = names(find(tmp_path))
    assert set(found) > STDLIB
    assert found == sorted(found)
    assert not [name for name in found if {"site-packages", "test", "tests"} & set(name.split("/")[:-1])]


def test_every_nth_file_is_kept(tmp_path):
    assert names(find(tmp_path, every_nth_file=10)) == names(find(tmp_path))[::10]


# --- python-packages --------------------------------------------------------------------------------------------


def test_packages_are_found_by_import_name_and_by_distribution_name(tmp_path):
    found = find(tmp_path, corpus="python-packages", packages=["numpy", "Jinja2", "typing_extensions"])
    assert {source.group for source in found.sources()} == {"numpy", "Jinja2", "typing_extensions"}
    assert "Jinja2/jinja2/lexer.py" in names(found)
    assert "typing_extensions/typing_extensions.py" in names(found)
    assert not [name for name in names(found) if "/tests/" in name]
    assert found.unit == "projects"


def test_a_package_that_is_not_installed_is_named_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"unknown installed package 'numpi'; did you mean 'numpy'\?"):
        find(tmp_path, corpus="python-packages", packages=["numpi"])


def test_a_package_named_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="'Jinja2' and 'jinja2' are the same package"):
        find(tmp_path, corpus="python-packages", packages=["Jinja2", "jinja2"])


@pytest.mark.parametrize("name", ["sys", "../numpy", "", "os.path"])
def test_what_is_no_package_with_python_files_is_one_clear_error(tmp_path, name):
    with pytest.raises(DataError, match=r"data\.packages"):
        find(tmp_path, corpus="python-packages", packages=[name])


# --- java-small -------------------------------------------------------------------------------------------------


def test_the_folders_of_java_small_are_the_splits(java_folder, tmp_path):
    found = find(tmp_path, corpus="java-small", path=str(java_folder)).sources()
    assert [(source.name, source.split, source.group) for source in found] == [
        ("training/alpha/Stack.java", "train", "training/alpha"),
        ("training/alpha/Visitor.java", "train", "training/alpha"),
        ("training/alpha/Walker.java", "train", "training/alpha"),
        ("training/beta/Sum.java", "train", "training/beta"),
        ("validation/gamma/Queue.java", "validation", "validation/gamma"),
        ("test/delta/Heap.java", "test", "test/delta"),
    ]


def test_every_nth_file_counts_anew_in_each_project(java_folder, tmp_path):
    found = names(find(tmp_path, corpus="java-small", path=str(java_folder), every_nth_file=2))
    assert found[:3] == ["training/alpha/Stack.java", "training/alpha/Walker.java", "training/beta/Sum.java"]


def test_an_archive_of_java_small_holds_the_same(java_archive, java_folder, tmp_path):
    whole = names(find(tmp_path, corpus="java-small", path=str(java_folder)))
    assert names(find(tmp_path / "cache", corpus="java-small", path=str(java_archive))) == whole
    with zipfile.ZipFile(tmp_path / "java-small.zip", "w") as opened:
        for name in whole:
            opened.write(java_folder / name, name)
    assert names(find(tmp_path / "cache", corpus="java-small", path=str(tmp_path / "java-small.zip"))) == whole


def test_the_record_says_which_archive_it_was(java_archive, java_folder, tmp_path):
    sha256 = hashlib.sha256(java_archive.read_bytes()).hexdigest()
    options = {"corpus": "java-small", "path": str(java_archive), "sha256": sha256}
    found = find(tmp_path / "cache", **options)
    assert found.facts == {
        "archive": {"name": "java-small.tar.gz", "size": java_archive.stat().st_size, "sha256": sha256}
    }
    assert find(tmp_path / "cache", corpus="java-small", path=str(java_folder)).facts == {}
    with pytest.raises(DataError, match=rf"expected an archive with SHA-256 {'0' * 64} .* found {sha256}"):
        find(tmp_path / "cache", **{**options, "sha256": "0" * 64})
    with pytest.raises(DataError, match=r"data\.sha256: expected an archive at data\.path, found the folder"):
        find(tmp_path / "cache", **{**options, "path": str(java_folder)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.corpus": "java-small", "data.path": "x", "data.sha256": "ab" * 32}, None),
        ({"data.corpus": "java-small", "data.path": "x", "data.sha256": "ab"}, "expected 64 hexadecimal digits"),
        ({"data.sha256": "ab" * 32}, "only corpus java-small comes from an archive"),
    ],
)
def test_a_hash_is_checked_with_the_study(changes, message):
    problems = dict(Config.cross_check({**schema_of(Config).defaults(), **changes}))
    assert problems == {} if message is None else message in problems["data.sha256"]


def test_a_missing_folder_is_named_with_what_there_is(java_folder, tmp_path):
    shutil.rmtree(java_folder / "validation")
    with pytest.raises(DataError, match=r"expected the folders training, validation, test .* found test/, training/"):
        find(tmp_path, corpus="java-small", path=str(java_folder))
    with pytest.raises(DataError, match=r"does not exist; in .* there is: java-small"):
        find(tmp_path, corpus="java-small", path=str(tmp_path / "java-smal"))
    with pytest.raises(DataError, match="expected a folder or an archive"):
        find(tmp_path, corpus="java-small", path=str(java_folder / "test/delta/Heap.java"))


def test_a_file_whose_name_is_no_utf_8_is_read(java_folder, tmp_path):
    (java_folder / "test" / "delta" / "A\udcff.java").write_text("class A {}")
    assert "test/delta/A\\xff.java" in names(find(tmp_path, corpus="java-small", path=str(java_folder)))


# --- huggingface ------------------------------------------------------------------------------------------------


def write_rows(folder: Path, **splits: list[object]) -> str:
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"code": row, "n": 1}) + "\n" for row in rows))
    return str(folder)


def test_missing_splits_are_carved_out_of_train(tmp_path):
    path = write_rows(tmp_path / "rows", train=["def f(): pass", "def g(): pass"], test=["def h(): pass"])
    found = find(tmp_path / "cache", corpus="huggingface", path=path)
    assert [(source.name, source.split) for source in found.sources()] == [
        ("train/0", None),
        ("train/1", None),
        ("test/0", "test"),
    ]


def test_a_datasets_own_splits_are_kept(tmp_path):
    path = write_rows(tmp_path / "rows", train=["def f(): pass"], validation=["    def g():\n        pass"], test=["x"])
    found = find(tmp_path / "cache", corpus="huggingface", path=path).sources()
    assert [source.split for source in found] == ["train", "validation", "test"]
    assert found[1].text == "def g():\n    pass"


def test_a_folder_saved_to_disk_is_read(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"body": ["def f(): pass"] * 3}).save_to_disk(str(tmp_path / "saved"))
    found = find(
        tmp_path / "cache", corpus="huggingface", path=str(tmp_path / "saved"), code_column="body", every_nth_file=2
    )
    assert [(source.name, source.split) for source in found.sources()] == [("train/0", None), ("train/2", None)]
    assert len({source.group for source in found.sources()}) == 1


def test_what_is_wrong_with_a_dataset_is_one_clear_error(tmp_path):
    path = write_rows(tmp_path / "rows", train=["def f(): pass"])
    with pytest.raises(DataError, match=r"unknown column 'cod'; did you mean 'code'\?"):
        find(tmp_path / "cache", corpus="huggingface", path=path, code_column="cod").sources()
    with pytest.raises(DataError, match="expected texts in column 'n', found int"):
        find(tmp_path / "cache", corpus="huggingface", path=path, code_column="n").sources()
    with pytest.raises(DataError, match="found no folder"):
        find(tmp_path / "cache", corpus="huggingface", path=str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot load the dataset"):
        find(tmp_path / "cache", corpus="huggingface", path=str(tmp_path / "empty")).sources()
    odd = write_rows(tmp_path / "odd", validation=["x"], test=["y"])
    with pytest.raises(DataError, match="unknown split 'train'"):
        find(tmp_path / "cache", corpus="huggingface", path=odd).sources()
