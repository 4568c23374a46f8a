"""A folder for a study of walks, its scores where nothing happens, and signals as in a terminal."""

import signal

import pytest
from walking import Place, check_that_nothing_was_repeated


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heeded():
    """Also where a shell started the tests in the background: it makes them, and all they start, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """Scores of the study's six runs, never interrupted, run one after another in a process of their own."""
    place = Place(tmp_path_factory.mktemp("unbroken")).write()
    code, said = place.run("--executor", "inprocess")
    assert code == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)
    return place.scores()
