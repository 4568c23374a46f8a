import subprocess
import sys

import numpy as np
import pytest

from ablations.naming import caching


def made():
    return {"a": np.arange(5), "b": caching.pack(["x", "", "ü"])}, {"n": 1}


def test_what_is_cached_is_built_once(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return made()

    for _ in range(2):
        arrays, meta = caching.cached(tmp_path / "deep" / "x.npz", build, pytest.fail)
    assert calls == [1]
    assert (arrays["a"].tolist(), meta) == ([0, 1, 2, 3, 4], {"n": 1})
    assert caching.unpack(arrays["b"], 3) == ["x", "", "ü"]


def test_no_texts_and_one_empty_text_are_told_apart():
    assert caching.unpack(caching.pack([]), 0) == []
    assert caching.unpack(caching.pack([""]), 1) == [""]


@pytest.mark.parametrize("damage", ["truncate", "empty", "text", "no meta"])
def test_a_damaged_file_is_built_again_and_said(tmp_path, damage):
    file = tmp_path / "x.npz"
    caching.save(file, *made())
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content = bytearray()
    elif damage == "text":
        content = bytearray(b"hello")
    file.write_bytes(content)
    if damage == "no meta":
        with file.open("wb") as stream:
            np.savez(stream, a=np.arange(5))
    heard = []
    _, meta = caching.cached(file, made, heard.append)
    assert meta == {"n": 1}
    assert len(heard) == 1 and "x.npz is damaged" in heard[0]
    assert caching.load(file, pytest.fail) is not None


def test_no_flipped_bit_goes_unseen(tmp_path):
    file = tmp_path / "x.npz"
    caching.save(file, *made())
    whole, content = caching.load(file, pytest.fail), file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        found = caching.load(file, lambda message: None)
        if found is not None:  # a bit of the zip's bookkeeping that says nothing
            assert found[1] == whole[1]
            assert {name: array.tolist() for name, array in found[0].items()} == {
                name: array.tolist() for name, array in whole[0].items()
            }


def test_a_pickled_object_in_the_file_is_refused(tmp_path):
    file = tmp_path / "x.npz"
    with file.open("wb") as stream:
        np.savez(stream, meta=np.array([{"n": 1}], dtype=object))
    heard = []
    assert caching.load(file, heard.append) is None
    assert "damaged" in heard[0]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), caching.atomic(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_do_the_work_once(tmp_path):
    program = (
        "import sys, time, pathlib, numpy\nfrom ablations.naming import caching\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def build():\n    (folder / 'calls').open('a').write('x')\n    time.sleep(.5)\n"
        "    return {'a': numpy.arange(3)}, {}\n"
        "print(len(caching.cached(folder / 'x.npz', build, lambda message: None)[0]['a']))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in processes] == [b"3"] * 3
    assert (tmp_path / "calls").read_text() == "x"


def test_digests_depend_on_every_part():
    assert caching.digest(1, "a") != caching.digest(1, "b") != caching.digest("1", "b")
