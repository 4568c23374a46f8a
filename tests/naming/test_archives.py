import hashlib
import io
import random
import stat
import tarfile
import zipfile

import pytest

from ablations.errors import DataError
from ablations.naming import archives
from ablations.naming.archives import unpacked


def quiet(message):
    pass


def tar(path, *members, mode="w:gz"):
    """Members are a TarInfo, or (name or TarInfo, content)."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as opened:
        for member in members:
            info, content = (member, b"") if isinstance(member, tarfile.TarInfo) else member
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything_below(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_files_of_the_suffix_are_unpacked_and_others_passed_by(tmp_path, mode):
    archive = tar(tmp_path / "a.tar", ("p/A.java", b"class A {}"), ("p/._A.java", b"x"), ("p/a.txt", b"x"), mode=mode)
    folder = unpacked(archive, ".java", tmp_path / "cache", quiet)
    assert everything_below(folder) == [".complete", "p/A.java"]
    assert (folder / "p/A.java").read_bytes() == b"class A {}"


def test_a_zip_is_unpacked_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("p/", "")
        opened.writestr("p/A.java", "class A {}")
    assert (unpacked(tmp_path / "a.zip", ".java", tmp_path / "cache", quiet) / "p/A.java").is_file()


def test_an_archive_is_unpacked_once(tmp_path):
    archive, heard = tar(tmp_path / "a.tar.gz", ("A.java", b"")), []
    for _ in range(2):
        unpacked(archive, ".java", tmp_path / "cache", heard.append)
    assert heard == ["unpacking a.tar.gz"]


def test_what_a_killed_process_left_is_made_anew(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"whole"))
    folder = unpacked(archive, ".java", tmp_path / "cache", quiet)
    (folder / ".complete").unlink()
    (folder / "A.java").write_bytes(b"ha")
    folder.with_name(f"{folder.name}.unfinished").mkdir()
    assert (unpacked(archive, ".java", tmp_path / "cache", quiet) / "A.java").read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../evil.java", b"x"), "leads out of the archive"),
        (("a/../../evil.java", b"x"), "leads out of the archive"),
        (("/evil.java", b"x"), "leads out of the archive"),
        (("..\\evil.java", b"x"), "leads out of the archive"),
        (("C:evil.java", b"x"), "leads out of the archive"),
        (special("evil.java", tarfile.SYMTYPE), "is a link or device"),
        (special("evil.java", tarfile.LNKTYPE, "A.java"), "is a link or device"),
        (special("folder", tarfile.SYMTYPE, "/tmp"), "is a link or device"),
        (special("pipe.java", tarfile.FIFOTYPE), "is a link or device"),
        (special("memory.java", tarfile.CHRTYPE), "is a link or device"),
        (special("disk", tarfile.BLKTYPE), "is a link or device"),
        (("a/" * 65 + "evil.java", b"x"), "folders deep"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_left(tmp_path, member, message):
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"class A {}"), member)
    with pytest.raises(DataError, match=message):
        unpacked(archive, ".java", tmp_path / "cache" / "deep", quiet)
    assert [name for name in everything_below(tmp_path / "cache") if not name.endswith((".lock", ".json"))] == []
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("evil.java")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or device"):
        unpacked(tmp_path / "a.zip", ".java", tmp_path / "cache", quiet)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("LARGEST_MEMBER", 1 << 20, "larger than 1 MiB"),
        ("LARGEST_TOTAL", 1 << 20, "unpacked; refused"),
        ("MOST_MEMBERS", 1, "more than 1 members"),
    ],
)
def test_bombs_are_refused(tmp_path, monkeypatch, limit, value, message):
    monkeypatch.setattr(archives, limit, value)
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"\0" * (1 << 20)), ("B.java", b"\0" * ((1 << 20) + 1)))
    with pytest.raises(DataError, match=message):
        unpacked(archive, ".java", tmp_path / "cache", quiet)


def test_what_is_passed_by_counts_as_it_has_to_be_unpacked_to_get_past_it(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_TOTAL", 1 << 20)
    archive = tar(tmp_path / "a.tar.gz", ("zeros.bin", b"\0" * ((1 << 20) + 1)), ("A.java", b"class A {}"))
    with pytest.raises(DataError, match="unpacked; refused"):
        unpacked(archive, ".java", tmp_path / "cache", quiet)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, kind):
    archive = tar(tmp_path / "a.tar.gz", (special("header", kind), b"0" * ((1 << 20) + 1)), ("A.java", b"x"))
    with pytest.raises(DataError, match=r"found damage: a header of 1,048,577 bytes"):
        unpacked(archive, ".java", tmp_path / "cache", quiet)


@pytest.mark.parametrize("attributes", [
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"GNU.sparse.map": "0,1"}, {"GNU.sparse.size": "9"},
])  # fmt: skip
def test_sparse_files_are_refused(tmp_path, attributes):
    info = tarfile.TarInfo("A.java")
    info.pax_headers = attributes
    with pytest.raises(DataError, match="found damage: a sparse file"):
        unpacked(tar(tmp_path / "a.tar.gz", info), ".java", tmp_path / "cache", quiet)
    old = special("A.java", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(DataError, match="found damage: a sparse file"):
        unpacked(tar(tmp_path / "b.tar.gz", old), ".java", tmp_path / "cache", quiet)


def test_an_archive_is_the_one_that_is_asked_for_or_refused_before_it_is_opened(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"class A {}"))
    content = archive.read_bytes()
    found = archives.identity(archive, tmp_path / "cache", quiet)
    assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    folder = unpacked(archive, ".java", tmp_path / "cache", quiet, sha256=found.sha256.upper())
    assert (folder / "A.java").is_file()
    archive.write_bytes(content + b"\0")
    with pytest.raises(DataError, match=rf"expected an archive with SHA-256 {found.sha256} .* found [0-9a-f]{{64}} \("):
        unpacked(archive, ".java", tmp_path / "cache", quiet, sha256=found.sha256)


def test_a_moved_archive_is_not_unpacked_again(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"class A {}"))
    folder = unpacked(archive, ".java", tmp_path / "cache", quiet)
    moved, heard = archive.rename(tmp_path / "b.tar.gz"), []
    assert unpacked(moved, ".java", tmp_path / "cache", heard.append) == folder
    assert heard == []


def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tar.gz", ("A.java", b"class A {}"))
    states = iter([[1, 1], [1, 2]])
    monkeypatch.setattr(archives, "_state", lambda archive: next(states))
    with pytest.raises(DataError, match="changed while it was read"):
        archives.identity(archive, tmp_path / "cache", quiet)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("A.java", b"\0" * 100_000)
    content = (tmp_path / "a.zip").read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="found damage"):
        unpacked(tmp_path / "a.zip", ".java", tmp_path / "cache", quiet)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x1f\x8b\x08\x00rubbish"])
def test_a_damaged_archive_is_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"expected an archive .* found damage|cannot be unpacked"):
        unpacked(tmp_path / name, ".java", tmp_path / "cache", quiet)


def test_a_truncated_archive_is_one_clear_error(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", *[(f"A{index}.java", bytes(range(256)) * 40) for index in range(40)])
    archive.write_bytes(archive.read_bytes()[:-800])
    with pytest.raises(DataError, match="found damage"):
        unpacked(archive, ".java", tmp_path / "cache", quiet)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("place", range(1, 10))
def test_altered_bytes_in_a_compressed_archive_are_found_wherever_they_are(tmp_path, mode, place):
    rng = random.Random(0)
    text = " ".join(rng.choices(["get", "size", "return", "index"], k=20_000)).encode()
    archive = tar(tmp_path / "a.tar", ("A.java", text), ("B.java", text), mode=mode)
    content = bytearray(archive.read_bytes())
    middle = len(content) * place // 10
    content[middle : middle + 3] = bytes(each ^ 255 for each in content[middle : middle + 3])
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"found damage|cannot be unpacked"):
        unpacked(archive, ".java", tmp_path / "cache", quiet)
