import multiprocessing
import os
import sys

import pytest

from ablations.naming import extraction
from ablations.naming.extraction import Source, Table, extract_all


def quiet(message):
    pass


@pytest.fixture
def sources(tmp_path):
    made = []
    for index in range(12):
        file = tmp_path / f"m{index}.py"
        file.write_text(f"def f{index}():\n    # note {index}\n    return {index}\n\ndef g(): pass\n")
        made.append(Source(file.name, file.name, str(file), size=file.stat().st_size))
    return [*made, Source("row/0", "row", text="def row(): pass", size=15)]


def same(one: Table, other: Table) -> bool:
    return (
        (one.codes, one.names, one.left_out, one.unparsed) == (other.codes, other.names, other.left_out, other.unparsed)
        and one.numbers.tolist() == other.numbers.tolist()
        and one.comments.tolist() == other.comments.tolist()
    )


def test_several_workers_find_what_one_process_finds_in_the_same_order(sources, monkeypatch):
    alone = extract_all(sources, "python", quiet, workers=1)
    monkeypatch.setattr(extraction, "CHUNK_BYTES", 150)
    heard = []
    assert same(extract_all(sources, "python", heard.append, workers=2), alone)
    assert alone.names[:4] == ["f0", "g", "f1", "g"]
    assert heard[-1] == "extracting functions: 13 of 13 files"


def test_a_table_survives_its_file(sources, tmp_path):
    table = extract_all(sources, "python", quiet, workers=1)
    extraction.caching.save(tmp_path / "t.npz", *table.pack())
    assert same(Table.unpack(*extraction.caching.load(tmp_path / "t.npz", quiet)), table)


def test_an_empty_corpus_gives_an_empty_table():
    table = extract_all([], "python", quiet)
    assert (table.codes, table.numbers.shape, table.comments.shape) == ([], (0, 5), (0, 3))
    assert same(Table.unpack(*table.pack()), table)


def test_files_that_cannot_be_read_are_listed_with_reasons(sources, tmp_path):
    (tmp_path / "m3.py").write_bytes(b"\0")
    (tmp_path / "m5.py").unlink()
    table = extract_all(sources, "python", quiet, workers=2)
    assert table.unparsed == [(3, "no text: NUL characters"), (5, "not readable: No such file or directory")]


@pytest.mark.slow
def test_a_worker_that_dies_costs_the_file_that_kills_it(sources, tmp_path, monkeypatch):
    killer = tmp_path / "kill.py"  # stands for a crash in the parser's native code
    killer.write_text(
        "import os, sys\nfrom ablations.naming import extraction, functions\nwhole = functions.extract\n"
        "def extract(source, language):\n"
        "    if b'f7' in (source if isinstance(source, bytes) else source.encode()):\n        os._exit(11)\n"
        "    return whole(source, language)\n"
        "functions.extract = extract\nextraction._work(sys.argv[1])\n"
    )
    start = extraction.subprocess.Popen
    monkeypatch.setattr(
        extraction.subprocess,
        "Popen",
        lambda command, **options: start([sys.executable, str(killer), command[-1]], **options),
    )
    table = extract_all(sources, "python", quiet, workers=2)
    assert table.unparsed == [(7, "the parser ended with status 11")]
    assert len(table.codes) == 2 * 11 + 1


def _in_daemon(sources, results):
    results.put(len(extract_all(sources, "python", quiet, workers=2).codes))


def test_it_works_inside_a_daemonic_forked_worker(sources):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=_in_daemon, args=(sources, results), daemon=True)
    process.start()
    process.join(30)
    assert results.get() == 25


def test_a_failure_of_the_listener_ends_the_work_and_is_raised(sources):
    def failing(message):
        raise RuntimeError("listener gone")

    with pytest.raises(RuntimeError, match="listener gone"):
        extract_all(sources, "python", failing, workers=2)


def test_it_uses_the_cores_it_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert extraction._cores() == 3
