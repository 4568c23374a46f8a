"""Any bytes given as an archive are unpacked into their folder or refused with one error."""

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.errors import DataError
from ablations.naming.archives import unpacked

FILES = {"p/A.java": b"class A { int a() { return 1; } }" * 9, "p/q/B.java": b"class B {}", "p/notes.txt": b"no"}


def tar(mode):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return file.getvalue()


WHOLE = {
    "a.tar": tar("w"),
    "a.tar.gz": tar("w:gz"),
    "a.tar.xz": tar("w:xz"),
    "a.tar.bz2": tar("w:bz2"),
    "a.zip": zipped(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_an_altered_archive_is_unpacked_into_its_folder_or_refused(name, data):
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["bit", "byte", "cut", "insert"]))
        if kind == "bit":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            content[place] = data.draw(st.sampled_from(b"\0\xff/.L5x"))
        elif kind == "cut" and len(content) > 20:
            del content[max(20, place) :]
        else:
            content[place:place] = data.draw(st.sampled_from([b"../", b"/", b"\0" * 600, b"9" * 12]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / name).write_bytes(content)
        before = set(root.rglob("*"))
        try:
            made = unpacked(root / name, ".java", root / "cache", lambda line: None)
        except DataError as error:
            assert str(root / name) in str(error)
        else:
            assert all(path.is_relative_to(made) or path.suffix in (".json", ".lock") or path.is_dir()
                       for path in set(root.rglob("*")) - before)  # fmt: skip
