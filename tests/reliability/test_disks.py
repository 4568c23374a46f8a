"""A disk that is full, and one that turns read-only, under real runs."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from walking import Place

from ablations.files import read_json
from ablations.plan import expand, run_keys
from ablations.store import Store, read_metrics
from ablations.study import load_study

pytestmark = pytest.mark.slow

LOUD = "loud: {set: {walk.values: 400}}"


def sh(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def mounted(folder, *arguments):
    """Mounts something on a folder; skips the test where that may not be done."""
    folder.mkdir()
    done = sh("mount", *arguments, str(folder))
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount (root): {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A study whose results lie on a disk of 1 MB."""
    place = Place(tmp_path).write(LOUD, seeds=1, pause_ms=0)
    mounted(place.results, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    yield place
    sh("umount", "--lazy", str(place.results))


def test_on_a_full_disk_the_run_fails_with_the_reason_and_goes_on_when_there_is_room(small_disk):
    code, said = small_disk.run("--workers", "1")
    assert code == 1
    assert "✗ failed  loud, seed 0" in said
    assert "ENOSPC, No space left on device" in said
    records = small_disk.records()
    assert {key: record["status"] for key, record in records.items()} == {
        ("baseline", 0): "completed", ("long", 0): "completed", ("loud", 0): "failed",
    }  # fmt: skip
    error = records["loud", 0]["error"]
    assert (error["type"], error["passing"]) == ("OSError", True)

    store, study = Store(small_disk.results), load_study(small_disk.folder / "study.yaml")
    scores = store.read_scores(study).set_index("variant")
    assert scores.loc["baseline", "value"] == records["baseline", 0]["scores"]["position"]
    assert scores.loc["loud", "status"] == "failed"
    assert scores["value"].isna().tolist() == [False, False, True]
    assert len(read_metrics(small_disk.results / "runs" / records["loud", 0]["run_id"] / "metrics.jsonl")) > 1000

    assert sh("mount", "-o", "remount,size=16m", str(small_disk.results)).returncode == 0
    code, said = small_disk.run()
    assert code == 0, said
    assert small_disk.records()["loud", 0]["attempt"] == 2


def test_the_report_of_a_study_that_filled_its_disk_flags_the_gap(small_disk):
    from ablations.reporting.context import load_context
    from ablations.reporting.sections import missing

    small_disk.run("--workers", "1")
    text = missing(load_context(small_disk.folder / "study.yaml", small_disk.results), small_disk.folder)
    assert "loud" in text
    assert "failed" in text


@pytest.fixture
def dying_disk(tmp_path):
    """A study on a disk of its own, and a function that makes its system mount it read-only for an error."""
    place, image = Place(tmp_path).write(pause_ms=20), tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(16 * 2**20)
    if not shutil.which("mkfs.ext4") or sh("mkfs.ext4", "-q", str(image)).returncode != 0:
        pytest.skip("needs mkfs.ext4")
    mounted(place.results, "-o", "loop,errors=remount-ro", str(image))
    device = os.path.basename(sh("findmnt", "-n", "-o", "SOURCE", str(place.results)).stdout.strip())
    yield place, lambda: Path("/sys/fs/ext4", device, "trigger_fs_error").write_text("1")
    sh("umount", str(place.results))


def test_on_a_disk_that_turns_read_only_the_runs_fail_with_the_reason_and_what_had_ended_stays(dying_disk):
    place, die = dying_disk
    with place.start("--workers", "1") as launcher:
        place.wait_for_steps(66 + 5)
        with contextlib.suppress(OSError):
            die()
        said, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 1, said
    assert "EROFS, Read-only file system" in said
    assert all(f"[{number}/6] ✗ failed" in said for number in range(2, 7))
    assert {key: record["status"] for key, record in place.records().items()} == {("baseline", 0): "completed"}
    statuses = {row["status"] for row in place.status().values()}
    assert statuses == {"completed", "interrupted", "missing"}


def test_where_a_file_may_not_grow_a_run_fails_although_it_took_no_notice_and_sacred_believes_it(place):
    """Needs no rights: the limit is the process's own. The experiment swallows what the system says."""
    place.write("quiet: {set: {walk.values: 400, trouble.kind: swallow}}", seeds=1, pause_ms=0)
    study, store = load_study(place.folder / "study.yaml"), Store(place.results)
    folder = store.prepare(run_keys(study)[2], expand(study)[2], study.experiment, threads=1, metric="position")
    program = (
        "import resource, sys; from ablations import runner\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); sys.exit(runner.main(sys.argv[1:]))"
    )
    done = sh(sys.executable, "-c", program, str(folder))
    assert done.returncode == 1, done.stderr
    record = read_json(folder / "record.json")
    assert record["status"] == "failed"
    assert record["error"]["message"].startswith("EFBIG, File too large")
    assert record["error"]["message"].endswith("metrics.jsonl")
    assert read_json(place.results / record["sacred"] / "run.json")["status"] == "COMPLETED"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000
