"""The command line as its user meets it: words, exit codes, and what lies on disk afterwards."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ABLATIONS = [sys.executable, "-m", "ablations.cli"]


def ablations(*arguments, folder, **options):
    return subprocess.run(
        [*ABLATIONS, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.mark.slow
def test_a_study_is_run_once_and_then_known_to_be_done(coin_study):
    folder = coin_study().parent
    first = ablations("run", folder=folder)
    assert first.returncode == 0, first.stderr
    assert "2 variants x 3 seeds = 6 runs, 6 to run." in first.stdout
    assert first.stdout.count("✓ completed") == 6
    assert first.stdout.endswith("All runs have completed.\nNext: ablations report\n")
    again = ablations("run", "--study", str(folder / "study.yaml"), "--results", "results/", folder=folder)
    assert f"Next: ablations report --study {folder}/study.yaml\n" in again.stdout
    again = ablations("run", folder=folder)
    assert "6 runs, 0 to run." in again.stdout
    assert again.returncode == 0


@pytest.mark.slow
def test_two_runs_of_a_study_give_the_same_scores(coin_study, tmp_path):
    folder = coin_study().parent
    found = []
    for results in ("one", "two"):
        assert ablations("run", "--results", results, folder=folder).returncode == 0
        records = [json.loads(path.read_text()) for path in sorted((folder / results).glob("runs/*/record.json"))]
        found.append([(record["run_id"], record["scores"]) for record in records])
    assert len(found[0]) == 6
    assert found[0] == found[1]


@pytest.mark.slow
def test_failures_are_shown_with_their_cause_and_stop_nothing(coin_study):
    folder = coin_study(
        """
        edge: {set: {trouble.kind: error, trouble.seed: 1}}
        away: {set: {trouble.kind: diverge}}
        dead: {set: {trouble.kind: kill}}
        """
    ).parent
    done = ablations("run", folder=folder)
    assert done.returncode == 1
    assert "edge, seed 1: ValueError: the coin stood on its edge" in done.stdout
    assert "away, seed 0: Diverged: step 10: the coin rolled away" in done.stdout
    assert re.search(r"dead, seed 2: .*killed by SIGKILL", done.stdout)
    assert "✓ 8 completed" in done.stdout
    status = ablations("status", folder=folder)
    assert re.search(r"edge +✓ 2 completed, ✗ 1 failed", status.stdout)
    assert re.search(r"dead +↺ 3 interrupted", status.stdout)
    rows = json.loads(ablations("status", "--json", folder=folder).stdout)
    assert len(rows) == 15
    assert [row["cause"] for row in rows if row["variant"] == "edge"][1] == "ValueError: the coin stood on its edge"


@pytest.mark.slow
def test_a_failed_run_is_repeated_on_request_only_and_an_interrupted_one_always(coin_study):
    folder = coin_study("edge: {set: {trouble.kind: error}}\ndead: {set: {trouble.kind: kill}}").parent
    ablations("run", folder=folder)
    assert "12 runs, 3 to run." in ablations("run", folder=folder).stdout
    assert "12 runs, 6 to run." in ablations("run", "--retry", folder=folder).stdout


@pytest.mark.slow
def test_only_what_is_named_is_run_and_the_baseline_with_it(coin_study):
    folder = coin_study("fair: {set: {coin.tosses: 50}}").parent
    done = ablations("run", "--only", "fair", folder=folder)
    assert "2 variants x 3 seeds = 6 runs" in done.stdout
    assert "loaded" not in done.stdout
    unknown = ablations("run", "--only", "fare", folder=folder)
    assert unknown.returncode == 2
    assert "unknown ablation or variant 'fare'; did you mean 'fair'?" in unknown.stderr


@pytest.mark.slow
def test_a_path_brings_along_the_variants_whose_runs_it_uses(coin_study):
    folder = coin_study("both: {set: {coin.weight: 0.9, coin.tosses: 50}}\nway: {path: both}\n").parent
    done = ablations("run", "--only", "way", folder=folder)
    assert "3 variants x 3 seeds = 9 runs" in done.stdout
    assert {run_of(path) for path in folder.glob("results/runs/*/progress.json")} == {"baseline", "loaded", "both"}


def test_a_wrong_study_is_refused_with_every_problem_and_nothing_is_written(coin_study):
    path = coin_study("heavy: {set: {coin.wieght: 0.9}}\nlight: {set: {coin.weight: 2}}")
    done = ablations("run", folder=path.parent)
    assert done.returncode == 2
    assert "study.yaml:10: ablations.heavy.set.coin.wieght: unknown parameter" in done.stderr
    assert "did you mean 'coin.weight'?" in done.stderr
    assert "study.yaml:11: ablations.light.set.coin.weight: expected a number from 0 to 1, found 2" in done.stderr
    assert "2 problems in study.yaml; nothing was run." in done.stderr
    assert not (path.parent / "results").exists()


@pytest.mark.slow
def test_plan_shows_what_differs_what_is_done_and_what_would_run(coin_study):
    folder = coin_study().parent
    ablations("run", "--only", "baseline", folder=folder)
    shown = ablations("plan", folder=folder).stdout
    assert re.search(r"baseline +no change +3/3 +0", shown)
    assert re.search(r"loaded +coin.weight 0.5 → 0.9 +0/3 +3", shown)
    assert "6 runs, 3 to run." in shown


@pytest.mark.slow
def test_a_stopped_study_says_how_to_go_on_and_goes_on(coin_study):
    folder = coin_study("slow: {set: {trouble.kind: sleep}}").parent
    with subprocess.Popen(
        [*ABLATIONS, "run"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(lambda: any(run_of(path) == "slow" for path in folder.glob("results/runs/*/progress.json")))
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
    assert "Stopped. What has ended is kept" in said
    statuses = {row["status"] for row in json.loads(ablations("status", "--json", folder=folder).stdout)}
    assert "running" not in statuses
    assert "completed" in statuses
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("trouble.kind: sleep", "coin.tosses: 7"))
    again = ablations("run", folder=folder)
    assert again.returncode == 0
    assert again.stdout.count("✓ completed") < 9  # what had ended was kept


@pytest.mark.slow
def test_a_study_that_is_told_to_end_takes_its_runs_with_it(coin_study):
    folder = coin_study("slow: {set: {trouble.kind: sleep}}").parent
    with subprocess.Popen(
        [*ABLATIONS, "run", "--only", "slow"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(lambda: any(run_of(path) == "slow" for path in folder.glob("results/runs/*/progress.json")))
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 130
    statuses = {row["status"] for row in json.loads(ablations("status", "--json", folder=folder).stdout)}
    assert "running" not in statuses


@pytest.mark.slow
def test_two_studies_on_one_folder_run_every_cell_once(coin_study):
    folder = coin_study().parent
    both = [
        subprocess.Popen([*ABLATIONS, "run"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    for process in both:
        process.communicate(timeout=120)
    records = [json.loads(path.read_text()) for path in folder.glob("results/runs/*/record.json")]
    assert [(record["status"], record["attempt"]) for record in records] == [("completed", 1)] * 6
    assert len(list(folder.glob("results/sacred/*"))) == 6


@pytest.mark.slow
def test_trouble_with_files_is_one_line_that_names_the_file(coin_study):
    folder = coin_study().parent
    ablations("run", "--only", "baseline", folder=folder)
    record = next(folder.glob("results/runs/*/record.json"))
    record.write_text("{")
    for command in ("run", "status", "plan", "report"):
        done = ablations(command, folder=folder)
        assert done.returncode == 3, done.stdout
        assert f"{record.parent.name}/record.json: expected a JSON object" in done.stderr
        assert "Traceback" not in done.stderr
    (folder / "file").write_text("no folder")
    done = ablations("run", "--results", "file", folder=folder)
    assert done.returncode == 2
    assert "'file' is a file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_experiment_that_cannot_be_imported_is_said_before_anything_runs(coin_study):
    path = coin_study()
    path.write_text(path.read_text().replace("coin.experiment:ex", "coin.experiment:exx"))
    done = ablations("run", folder=path.parent)
    assert done.returncode == 3
    assert "unknown experiment 'exx'; did you mean 'ex'?" in done.stderr
    assert not (path.parent / "results").exists()


@pytest.mark.slow
def test_the_threads_of_a_run_do_not_depend_on_how_many_runs_are_left(coin_study):
    folder = coin_study().parent
    ablations("run", "--only", "baseline", folder=folder)
    for path in list(folder.glob("results/runs/*/record.json"))[:1]:
        path.unlink()
    ablations("run", "--only", "baseline", folder=folder)
    records = [json.loads(path.read_text()) for path in folder.glob("results/runs/*/record.json")]
    assert len({record["environment"]["threads"] for record in records}) == 1


def test_the_study_in_the_readme_is_one(tmp_path):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "study.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1], encoding="utf-8")
    assert "4 variants x 5 seeds" in ablations("validate", folder=tmp_path).stdout


@pytest.mark.parametrize("command", [["--help"], ["plan"], ["validate"], ["status"]])
def test_commands_that_compute_nothing_import_nothing_heavy(coin_study, command):
    code = (
        "import sys; sys.argv = ['ablations', *sys.argv[1:]]\n"
        "from ablations.cli import main\n"
        "try: main()\n"
        "finally: print('HEAVY', {'torch', 'transformers', 'pandas', 'sacred', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=coin_study().parent, capture_output=True, text=True, check=False
    )
    assert "HEAVY set()" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_table_made_elsewhere_is_compared_without_a_study(tmp_path):
    rows = [f"{arm},{seed},{base + seed / 100}" for arm, base in [("base", 0.5), ("deep", 0.6)] for seed in range(5)]
    rows[-1] = "deep,4,0.66"  # so that the difference is not the same on every seed
    (tmp_path / "results.csv").write_text("arm,run,f1\n" + "\n".join(rows) + "\n")
    options = ["--baseline", "base", "--metric", "f1", "--variant", "arm", "--seed", "run"]
    done = ablations("compare", "results.csv", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"deep +5 +\+0.104 +\+0.093 to \+0.115 +< ?0.001 +helps", done.stdout), done.stdout
    (row,) = json.loads(ablations("compare", "results.csv", *options, "--json", folder=tmp_path).stdout)
    assert row["verdict"] == "helps"  # by hand: differences .1 four times, .12 once: mean .104, sd .00894, t = 26
    assert row["t"] == pytest.approx(0.104 / (0.00894427 / 5**0.5), rel=1e-4)
    wrong = ablations("compare", "results.csv", "--baseline", "bas", "--metric", "f1", "--variant", "arm",
                      "--seed", "run", folder=tmp_path)  # fmt: skip
    assert wrong.returncode == 3
    assert "unknown variant 'bas'; did you mean 'base'?" in wrong.stderr


@pytest.mark.slow
def test_the_reference_experiment_from_declaration_to_report(tmp_path):
    (tmp_path / "study.yaml").write_text(REFERENCE, encoding="utf-8")
    done = ablations("run", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/*/record.json")]
    assert len(records) == 4
    assert all(record["info"]["data"]["fingerprint"] == records[0]["info"]["data"]["fingerprint"] for record in records)
    rendered = ablations("report", folder=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    html, pdf = (tmp_path / "results" / "report" / f"report.{kind}" for kind in ("html", "pdf"))
    assert "constant-lr" in html.read_text(encoding="utf-8")
    assert pdf.read_bytes().startswith(b"%PDF")


REFERENCE = """
study: small
smallest_effect: 0.02
seeds: 2
baseline:
  data: {input_tokens: 24, train_samples: 400, validation_samples: 40, test_samples: 60}
  model.hidden: 32
  encoder: {layers: 1, heads: 2, intermediate: 64}
  decoder: {layers: 1, heads: 2, intermediate: 64}
  training: {max_steps: 20, learning_rate: 2.0e-3}
  evaluation.every_steps: 10
ablations:
  constant-lr:
    set: {training.schedule: constant}
"""


def run_of(progress: Path) -> str:
    return json.loads((progress.parent / "job.json").read_text())["variant"]


def wait_until(happened, seconds=120):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_terminal_without_the_signs_gets_others_and_no_traceback(coin_study):
    folder = coin_study("wide: {set: {coin.tosses: 20}}").parent
    for command in (["status"], ["explain", "wide"], ["explain", "wide", "--json"]):
        done = ablations(*command, folder=folder, env={**os.environ, "PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
    assert json.loads(done.stdout)


def test_results_that_are_a_file_are_refused_and_not_taken_for_empty(coin_study):
    folder = coin_study("wide: {set: {coin.tosses: 20}}").parent
    done = ablations("status", "--results", "study.yaml", folder=folder)
    assert done.returncode == 2
    assert "'study.yaml' is a file" in done.stderr


@pytest.mark.slow
def test_a_name_of_10_kb_on_the_command_line_is_not_repeated_whole(coin_study):
    folder = coin_study("wide: {set: {coin.tosses: 20}}").parent
    for command in (["explain", "x" * 10_000], ["status", "--profile", "x" * 10_000]):
        done = ablations(*command, folder=folder)
        assert done.returncode == 2
        assert "x" * 100 in done.stderr
        assert len(done.stderr) < 500


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_table_that_is_a_device_is_not_read_without_end(tmp_path):
    wanted = {
        "/dev/zero": "expected a CSV file or a pipe, found a device",
        "nothere.csv": "cannot be read: No such file or directory",
    }
    for path, reason in wanted.items():
        done = ablations("compare", path, "--baseline", "b", "--metric", "m", folder=tmp_path)
        assert (done.returncode, done.stderr) == (3, f"ablations: {path}: {reason}\n")
