"""Several `ablations run` on one results folder, on one host and on what each other takes for another."""

import os
import signal
import time

import psutil
import pytest
from walking import check_that_nothing_was_repeated, elsewhere, finish, kill, on_host

pytestmark = pytest.mark.slow


def test_three_that_start_at_once_run_each_cell_once_and_all_end_with_the_whole_table(place, unbroken):
    place.write(pause_ms=5)
    said = finish([place.start() for _ in range(3)])
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken
    assert {record["attempt"] for record in place.records().values()} == {1}
    assert all("All runs have completed." in each for each in said)


@elsewhere
def test_two_hosts_that_share_the_folder_run_each_cell_once(place, unbroken):
    place.write(pause_ms=5)
    finish([place.start(prefix=on_host(name)) for name in ("anna", "bert")])
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken
    hosts = {record["environment"]["host"] for record in place.records().values()}
    assert hosts <= {"anna", "bert"}


@elsewhere
def test_a_live_process_on_another_host_is_waited_for_longer_than_its_lease_and_a_dead_one_replaced(place, unbroken):
    place.write(pause_ms=250)  # 15 s a run
    lease = {"PYTHONPATH": os.pathsep.join([str(place.short_leases(4.0)), os.environ["PYTHONPATH"]])}
    remote = place.start("--workers", "1", prefix=on_host("anna"), environment=lease)
    place.wait_for_steps(1)
    local = place.start("--workers", "6", environment=lease)
    until = time.monotonic() + 60
    while not {claim["host"] for claim in place.claims()} - {"anna"}:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(5)
    assert "anna" in {claim["host"] for claim in place.claims()}
    assert all(len({process for process, *_ in entries}) == 1 for entries in place.said_steps().values())
    os.killpg(remote.pid, signal.SIGKILL)
    remote.communicate(timeout=60)
    finish([local])
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken
    assert max(record["attempt"] for record in place.records().values()) == 2


def test_when_its_launcher_is_killed_a_run_stops_with_a_checkpoint_and_another_launcher_goes_on(place, unbroken):
    place.write(pause_ms=50)
    launcher = place.start()
    place.wait_for_steps(20)
    orphans = place.workers()
    kill(launcher.pid)
    launcher.communicate(timeout=60)
    until = time.monotonic() + 30
    while place.workers():
        assert time.monotonic() < until, "a run went on without its launcher"
        time.sleep(0.05)
    assert orphans
    stopped = [record for record in place.records().values() if record["status"] == "interrupted"]
    assert {record["error"]["message"] for record in stopped} == {"SIGTERM"}
    code, said = place.run()
    assert code == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken


def test_when_the_server_that_forks_runs_is_killed_its_runs_go_on_and_are_waited_for(place, unbroken):
    place.write(pause_ms=30)
    launcher = place.start()
    place.wait_for_steps(5)
    [server] = [child for child in psutil.Process(launcher.pid).children() if "forkserver" in " ".join(child.cmdline())]
    server.kill()
    finish([launcher])
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken
    assert {record["attempt"] for record in place.records().values()} == {1}
