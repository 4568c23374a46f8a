"""Runs that end badly, each in its own way: told apart, none stops another, none is repeated that would end alike."""

import uuid
from pathlib import Path

import pytest
from walking import Place

pytestmark = pytest.mark.slow

KINDS = ("error", "nan", "diverge", "segfault", "abort", "memory", "sigkill")


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A study with every trouble, run once: its folder, its exit code, what it said."""
    place = Place(tmp_path_factory.mktemp("troubled"))
    place.write("\n".join(f"{kind}: {{set: {{trouble.kind: {kind}}}}}" for kind in KINDS), seeds=1, pause_ms=0)
    return place, *place.run()


def test_each_cause_has_its_status_and_its_words_and_stops_no_other_run(troubled):
    place, code, _ = troubled
    assert code == 1
    found = {
        variant: (record["status"], (record["error"] or {}).get("type"))
        for (variant, _), record in place.records().items()
    }
    assert found == {
        "baseline": ("completed", None),
        "long": ("completed", None),
        "error": ("failed", "ValueError"),
        "nan": ("failed", "RunFailed"),
        "diverge": ("diverged", "Diverged"),
        "segfault": ("failed", "Crashed"),
        "abort": ("failed", "Crashed"),
        "memory": ("failed", "MemoryError"),
        "sigkill": ("interrupted", "Lost"),
    }
    said = {variant: row["cause"] for (variant, _), row in place.status().items()}
    assert said["segfault"] == "Crashed: crash in native code: killed by SIGSEGV"
    assert said["abort"] == "Crashed: crash in native code: killed by SIGABRT"
    assert said["nan"] == "RunFailed: expected a finite 'position' among what the experiment returns, found nan"


def test_a_lost_run_is_tried_three_times_and_each_attempt_is_recorded(troubled):
    place, _, said = troubled
    record = place.records()["sigkill", 0]
    assert record["attempt"] == 3
    folder = place.results / "runs" / record["run_id"]
    assert sorted(path.name for path in folder.glob("record-a*.json")) == ["record-a1.json", "record-a2.json"]
    assert "sigkill, seed 0: Lost: killed by SIGKILL, for the 3. time" in said


def test_a_known_failure_is_repeated_only_on_request(troubled):
    place, *_ = troubled
    before = {key: record["attempt"] for key, record in place.records().items()}
    place.run("--only", "segfault", "--only", "error", "--only", "diverge", "--only", "memory")
    assert {key: record["attempt"] for key, record in place.records().items()} == before
    place.run("--only", "segfault", "--only", "error", "--retry")
    after = {key: record["attempt"] for key, record in place.records().items()}
    assert {key[0] for key in after if after[key] > before[key]} == {"segfault", "error"}


@pytest.fixture
def group():
    """A control group that grants 256 MB."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        folder = Path(root) / f"ablations-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():  # the system makes it where groups are made
            (folder / limit).write_text(str(256 * 2**20))
            yield folder
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("needs the right to make memory control groups (root)")


def test_a_run_that_the_system_kills_for_lack_of_memory_is_lost_with_that_cause(place, group):
    place.write("hungry: {set: {trouble.kind: oom}}", seeds=1, pause_ms=0)
    code, said = place.run(environment={"WALK_CGROUP": str(group)})
    assert code == 1, said
    record = place.records()["hungry", 0]
    assert (record["status"], record["error"]["type"]) == ("interrupted", "Lost")
    cause = "killed by SIGKILL, and the system has killed a process for lack of memory meanwhile"
    assert record["error"]["message"] == cause
    assert place.records()["long", 0]["status"] == "completed"


def test_a_killed_runs_sacred_folder_says_running_only_until_the_next_attempt(troubled):
    place, *_ = troubled
    run_id = place.records()["sigkill", 0]["run_id"]
    statuses = [(place.results / "sacred" / f"{run_id}-a{attempt}" / "run.json").read_text() for attempt in (1, 2)]
    assert all('"status": "INTERRUPTED"' in each for each in statuses)
