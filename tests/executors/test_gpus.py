"""Packing runs on GPUs: with devices whose memory a test keeps, for no GPU is at hand; the numbers by hand."""

import json
import os
import stat

import pytest

from ablations.errors import AblationsError
from ablations.executors._gpus import CONTEXT_MB, Device, NvidiaSmi, Packer, peaks_mb
from ablations.store import Store

TOTAL_MB = 80_000.0


class Simulated(Device):
    """GPUs on which a test's runs take what it says that they take."""

    def __init__(self, *gpus, others_mb=0.0):
        self.taken = {gpu: {} for gpu in gpus}
        self.others_mb = others_mb

    def memory_mb(self, gpu):
        if gpu not in self.taken:
            raise AblationsError(f"GPU {gpu}: expected one of {', '.join(self.taken)}")
        return TOTAL_MB - self.others_mb - sum(self.taken[gpu].values()), TOTAL_MB


class Farm:
    """Runs, a packer and its GPUs; a run holds its memory from its start to its end."""

    def __init__(self, folder, *gpus, **options):
        self.folder, self.device, self.now = folder, Simulated(*gpus), 0.0
        self.packer = Packer(gpus, self.device, lambda config: config["like"], clock=lambda: self.now, **options)
        self.where = {}

    def run(self, name, like, takes_mb):
        """Places a run; returns its GPU, or None where it has to wait."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "job.json").write_text(json.dumps({"config": {"like": like}}))
        placed = self.packer.place(folder)
        if placed is None:
            return None
        gpu, _ = placed
        self.device.taken[gpu][name] = takes_mb
        self.where[name] = gpu
        self.now += 10
        self.packer.watch()
        assert self.device.memory_mb(gpu)[0] > 0, f"out of memory on {gpu}"
        return gpu

    def end(self, name, error=None, **cost):
        gpu = self.where.pop(name)
        del self.device.taken[gpu][name]
        record = {
            "status": "failed" if error else "completed",
            "error": error and {"type": error},
            "info": {"cost": cost},
        }
        (self.folder / name / "record.json").write_text(json.dumps(record))
        return self.packer.ended(self.folder / name)


def test_the_first_run_of_its_kind_is_alone_and_those_after_it_are_packed_by_what_it_took(tmp_path):
    farm = Farm(tmp_path, "0")
    assert farm.run("first", "small", 20_000.0) == "0"
    assert farm.run("second", "small", 20_000.0) is None
    farm.end("first")
    assert [farm.run(name, "small", 20_000.0) for name in "abcd"] == ["0", "0", "0", None]  # 60 of 72 GB, then 80


def test_what_the_allocator_reserved_counts_where_it_is_more_than_was_seen(tmp_path):
    farm = Farm(tmp_path, "0")
    farm.run("first", "small", 10_000.0)
    farm.end("first", peak_reserved_mb=34_000.0)  # with its context 35 GB: two are 70 of 72 GB
    assert [farm.run(name, "small", 34_000.0) for name in "abc"] == ["0", "0", None]


def test_runs_of_several_kinds_share_and_all_gpus_are_used_evenly(tmp_path):
    farm = Farm(tmp_path, "0", "1", peaks_mb={"small": 9_000.0, "large": 39_000.0})
    placed = [farm.run(name, like, mb) for name, like, mb in (
        ("a", "large", 39_000.0), ("b", "large", 39_000.0), ("c", "small", 9_000.0), ("d", "small", 9_000.0),
        ("e", "large", 39_000.0),
    )]  # fmt: skip
    assert placed == ["0", "1", "0", "1", None]  # 50 GB on each: a further 40 GB fit nowhere


def test_memory_that_others_took_meanwhile_is_left_to_them(tmp_path):
    farm = Farm(tmp_path, "0", peaks_mb={"small": 9_000.0})
    assert farm.run("a", "small", 9_000.0) == "0"
    farm.device.others_mb = 60_000.0
    assert farm.run("b", "small", 9_000.0) is None
    farm.device.others_mb = 0.0
    assert farm.run("b", "small", 9_000.0) == "0"


def test_a_run_that_found_no_memory_beside_others_is_run_again_alone(tmp_path):
    farm = Farm(tmp_path, "0", peaks_mb={"small": 9_000.0})
    farm.run("a", "small", 9_000.0)
    farm.run("b", "small", 9_000.0)
    assert farm.end("b", error="OutOfMemory")
    assert farm.run("b", "small", 30_000.0) is None  # not beside a
    farm.end("a")
    assert farm.run("b", "small", 30_000.0) == "0"
    assert farm.run("c", "small", 30_000.0) is None  # b is being watched
    assert not farm.end("b", peak_reserved_mb=30_000.0)
    assert [farm.run(name, "small", 30_000.0) for name in "cde"] == ["0", "0", None]


def test_a_run_that_finds_no_memory_alone_has_failed(tmp_path):
    farm = Farm(tmp_path, "0")
    farm.run("a", "huge", 79_000.0)
    assert not farm.end("a", error="OutOfMemory")


def test_more_runs_than_add_to_the_speed_are_not_put_on_a_gpu(tmp_path):
    farm = Farm(tmp_path, "0", peaks_mb={"small": 1_000.0})
    speeds = {1: 100.0, 2: 80.0, 3: 54.0, 4: 30.0}  # in all 100, 160, 162 and 120: the third adds 1 %
    for count in speeds:
        placed = [name for name in (f"{count}-{at}" for at in range(count)) if farm.run(name, "small", 1_000.0)]
        farm.now += 10_000  # each takes long, beside so many others
        for name in placed:
            farm.end(name, samples_per_s=speeds[len(placed)])
    assert farm.packer.limit("small") == 2
    assert [farm.run(name, "small", 1_000.0) for name in "abc"] == ["0", "0", None]


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_runs_share_a_gpu_than_were_asked_for(tmp_path, most):
    farm = Farm(tmp_path, "0", most=most, peaks_mb={"small": 100.0})
    placed = [farm.run(str(at), "small", 100.0) for at in range(5)]
    assert placed == ["0"] * most + [None] * (5 - most)
    assert farm.packer.slots == most


def test_forty_runs_of_three_kinds_never_run_out_of_memory_and_take_fewer_turns_than_alone(tmp_path):
    kinds = {"small": 8_000.0, "middle": 25_000.0, "large": 60_000.0}
    todo = [(f"{at}", list(kinds)[at % 3]) for at in range(40)]
    farm, turns = Farm(tmp_path, "0", "1"), 0
    while todo or farm.where:
        while todo and farm.run(todo[0][0], todo[0][1], kinds[todo[0][1]]):
            todo.pop(0)
        turns += 1
        for name in list(farm.where):
            farm.end(name, peak_reserved_mb=0.9 * farm.device.taken[farm.where[name]][name] - CONTEXT_MB)
    assert turns < 20  # two at a time and each alone: 20


@pytest.mark.parametrize(
    ("reserved", "expected"),
    [({}, 3_750.0), ({"peak_reserved_mb": 3_100.0}, 3_750.0), ({"peak_reserved_mb": 7_000.0}, 7_000.0)],
)
def test_what_runs_of_earlier_launches_took_is_read_from_their_records(tmp_path, reserved, expected):
    for number, (device, mb) in enumerate([("H100", 1_000.0), ("H100", 3_000.0), ("cpu", 9_000.0)]):
        folder = tmp_path / "runs" / f"{number}"
        folder.mkdir(parents=True)
        record = {
            "format": 1, "run_id": f"{number}", "variant": "a", "seed": number, "experiment": "e", "scores": {},
            "config_hash": "c" if device == "cpu" else "h", "config": {"like": "small"}, "status": "completed",
            "info": {"cost": {"peak_memory_mb": mb, **reserved}},
            "environment": {"device": device, "host": "h", "threads": 1},
            "code": {"package_hash": "", "git_commit": None, "git_dirty": None}, "error": None,
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))
    assert peaks_mb(Store(tmp_path), lambda config: config["like"]) == {"small": expected}  # a quarter is kept for more


# -- the device itself ----------------------------------------------------------------------------------------


def check_device(device, gpu, unknown):
    """What every device must do."""
    free, total = device.memory_mb(gpu)
    assert 0 <= free <= total and total > 0
    with pytest.raises(AblationsError, match=f"GPU {unknown}"):
        device.memory_mb(unknown)


def test_the_simulated_device_does_what_a_device_must():
    check_device(Simulated("0"), "0", "7")


def test_the_drivers_program_is_asked_as_it_wants_to_be(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase "$1" in --id=0) echo "70312, 81559";; *) echo "No devices were found"; exit 6;; esac'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check_device(NvidiaSmi(), "0", "7")
    assert NvidiaSmi().memory_mb("0") == (70312.0, 81559.0)


def test_without_the_drivers_program_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AblationsError, match="GPU 0: expected its memory from nvidia-smi"):
        NvidiaSmi().memory_mb("0")
