"""What the machine has, where that can be asked without it."""

from pathlib import Path

import pytest

from ablations import machine


@pytest.mark.parametrize(
    ("content", "cores"), [("200000 100000\n", 2), ("max 100000\n", None), ("50000 100000\n", 0), ("nonsense", None)]
)
def test_a_containers_limit_in_whole_cores(tmp_path, content, cores):
    path = tmp_path / "cpu.max"
    path.write_text(content)
    assert machine._quota(path) == cores
    assert machine._quota(Path(tmp_path / "absent")) is None


def test_there_is_at_least_one_core():
    assert machine.cores() >= 1


def test_without_a_driver_there_is_no_gpu_whatever_the_environment_says(monkeypatch):
    monkeypatch.setattr(machine.Path, "is_dir", lambda self: False)
    monkeypatch.setattr(machine.Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.gpu_names() == []


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["0", "1"]), ("3,5", ["3", "5"]), ("GPU-1a, MIG-2b", ["GPU-1a", "MIG-2b"]), ("", []), ("-1", [])],
)
def test_gpus_go_by_the_names_that_the_environment_gives_them(monkeypatch, visible, names):
    monkeypatch.setattr(machine.Path, "is_dir", lambda self: False)
    monkeypatch.setattr(machine.Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0"), Path("/dev/nvidia1")]))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpu_names() == names
