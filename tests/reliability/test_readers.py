"""Whoever reads what a command prints goes away, as ``| head`` does: nothing is lost, and nothing is said of it."""

import os
import subprocess

import pytest
from walking import ABLATIONS

pytestmark = pytest.mark.slow


def unread(*arguments, folder, of="stdout", command=ABLATIONS):
    """A command whose output nobody reads: its exit code, and what it said elsewhere."""
    reader, writer = os.pipe()
    os.close(reader)
    elsewhere = "stderr" if of == "stdout" else "stdout"
    try:
        done = subprocess.run(
            [*command, *arguments], cwd=folder, text=True, timeout=60, check=False,
            **{of: writer, elsewhere: subprocess.PIPE},
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, getattr(done, elsewhere)


@pytest.mark.parametrize(
    "arguments", [("plan",), ("status", "--json"), ("validate",), ("schema",), ("run", "--help"), ("--help",)]
)
def test_a_command_whose_reader_has_gone_says_nothing_and_ends_as_ever(coin_study, arguments):
    assert unread(*arguments, folder=coin_study().parent) == (0, "")


def test_it_ends_as_ever_also_where_python_buffers_nothing(coin_study):
    unbuffered = [ABLATIONS[0], "-u", *ABLATIONS[1:]]
    assert unread("plan", folder=coin_study().parent, command=unbuffered) == (0, "")


def test_an_exit_code_still_says_what_was_found(coin_study):
    path = coin_study("heavy: {set: {coin.wieght: 0.9}}")
    assert unread("validate", folder=path.parent, of="stderr") == (2, "")
    other = path.with_name("other.yaml")
    other.write_text(coin_study().read_text().replace("0.9", "0.8"))
    assert unread("diff", "study.yaml", "other.yaml", folder=path.parent) == (1, "")


def test_a_disk_that_is_full_is_no_reader_that_has_gone(coin_study):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*ABLATIONS, "plan"], cwd=coin_study().parent, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(("trouble", "code"), [("none", 0), ("error", 1)])
def test_a_study_whose_reader_goes_away_is_run_to_its_end_and_its_exit_code_says_how_it_went(place, trouble, code):
    place.write(f"other: {{set: {{walk.size: 3.0, trouble.kind: {trouble}}}}}", seeds=2)
    place.hold(10)
    with place.start() as launcher:
        assert launcher.stdout.readline() == "walk\n"
        place.wait_for_steps(1)
        launcher.stdout.close()
        place.release()
        assert launcher.wait(120) == code
    statuses = {key: record["status"] for key, record in place.records().items()}
    failed = "failed" if code else "completed"
    assert statuses == {(arm, s): failed if arm == "other" else "completed" for arm, s in statuses}
    assert len(statuses) == 3 * 2
    assert place.claims() == []


def test_output_that_is_read_is_what_it_was(coin_study):
    plan = [*ABLATIONS, "plan"]
    piped = subprocess.run(plan, cwd=coin_study().parent, capture_output=True, check=True).stdout
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    assert (
        subprocess.run(plan, cwd=coin_study().parent, capture_output=True, env=environment, check=True).stdout == piped
    )
    assert "0.5 → 0.9" in piped.decode()
