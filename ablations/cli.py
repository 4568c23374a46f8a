"""The command line: parses, calls, turns errors into exit codes.

Exit codes: 0 done, or with ``run --detach`` submitted; 1 a run did not complete, or verify, diff or doctor found
something; 2 the study or the command is wrong; 3 something else is wrong, such as data that are not there; 130 stopped
by hand. A reader that goes away (``| head``) changes none of them: see :mod:`ablations.streams`.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablations import completion, streams
from ablations.errors import AblationsError, StudyError, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from ablations.store import Store
    from ablations.study import Study

app = typer.Typer(
    help="Reproducible ablation studies: declare them in one file, run them over seeds, report conclusions that hold.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels cost half of what `ablations --help` takes
    context_settings={"help_option_names": ["-h", "--help"]},
)

STUDY, RESULTS = Path("study.yaml"), Path("results")
COME_BACK = "The same command again submits what is due by then; without --detach it follows what runs."


def _profiles(ctx: typer.Context, incomplete: str) -> list[str]:
    return completion.profiles(ctx.params.get("study") or STUDY, incomplete)


def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    return completion.names(ctx.params.get("study") or STUDY, ctx.params.get("profile"), incomplete)


def _executors(ctx: typer.Context, incomplete: str) -> list[str]:
    from ablations import executor_options

    return [name for name in executor_options.names() if name.startswith(incomplete)]


def _tools(incomplete: str) -> list[str]:
    from ablations.importing.reading import TOOLS

    return [name for name in TOOLS if name.startswith(incomplete)]


StudyOption = Annotated[Path, typer.Option("--study", "-s", help="The study's file.")]
ResultsOption = Annotated[Path, typer.Option("--results", "-r", file_okay=False, help="The folder of its runs.")]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile", "-p", help="The machine's profile; by default what fits this machine.", autocompletion=_profiles
    ),
]


@app.command()
def init(
    study: StudyOption = STUDY,
    experiment: Annotated[
        str, typer.Option(help="package.module:name of a Sacred experiment; by default the naming of methods.")
    ] = "ablations.naming.experiment:ex",
) -> None:
    """Write a commented study of an experiment to start from."""
    from ablations.authoring import start

    loaded = start(study, experiment)
    print(f"{study}: written, with {len(loaded.baseline)} parameters and a first ablation. Next: edit it, then")
    print("ablations validate" + _given(study))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the new ablation.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What it sets.")] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(metavar="KEY=V1,V2", help="Levels, each a variant; several make a grid.")
    ] = None,
    extends: Annotated[str | None, typer.Option(help="Whose changes come first.", autocompletion=_names)] = None,
    combine: Annotated[
        list[str] | None, typer.Option(help="Whose changes are made together.", autocompletion=_names)
    ] = None,
    question: Annotated[str, typer.Option(help="The question it answers.")] = "",
    expect: Annotated[str | None, typer.Option(help="better, worse or same: said before the runs.")] = None,
    group: Annotated[str, typer.Option(help="Heading under which the report shows it.")] = "",
    study: StudyOption = STUDY,
) -> None:
    """Write an ablation into the study; all else stays as it is."""
    from ablations.authoring import Entry, add
    from ablations.plan import seed_words

    entry = Entry(name, settings or (), sweep or (), extends, combine or (), question, expect, group)
    loaded, written = add(study, entry)
    count = next(len(each.levels) for each in loaded.ablations if each.name == name)
    print(written)
    print(f"{study}: written. {count} variant{'s' if count != 1 else ''} x {seed_words(loaded)} to run.")


@app.command()
def rm(
    name: Annotated[str, typer.Argument(help="An ablation.", autocompletion=_names)], study: StudyOption = STUDY
) -> None:
    """Take an ablation out of the study; no result is touched."""
    from ablations.authoring import remove

    _, profiles = remove(study, name)
    also = f", also from profile {' and '.join(profiles)}" if profiles else ""
    print(f"{study}: {name} removed{also}. What has run of it stays in the results.")


@app.command()
def validate(study: StudyOption = STUDY, profile: ProfileOption = None) -> None:
    """Say everything that is wrong with a study; runs nothing."""
    from ablations.plan import expand, seed_words
    from ablations.study import load_study

    loaded = load_study(study, profile)
    count = len(expand(loaded))
    print(f"{study}: fine. {count} variants x {seed_words(loaded)}{_with_profile(loaded)}.")


@app.command()
def schema(
    experiment: Annotated[
        str, typer.Option(help="package.module:name of a Sacred experiment; by default the naming of methods.")
    ] = "ablations.naming.experiment:ex",
) -> None:
    """Print the JSON Schema of study files, for editors."""
    import json

    from ablations.study_schema import study_schema

    print(json.dumps(study_schema(experiment), indent=2, ensure_ascii=False))


@app.command()
def plan(study: StudyOption = STUDY, results: ResultsOption = RESULTS, profile: ProfileOption = None) -> None:
    """Show every variant, what would run and how long it takes."""
    from ablations import commands

    loaded, store = _load(study, results, profile)
    commands.show_plan(loaded, store, _out())


@app.command()
def run(
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run this ablation or variant (repeatable).", autocompletion=_names)
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; by default one a GPU or core.")] = None,
    executor: Annotated[
        str, typer.Option(help="Where runs run: a name of docs/clusters.md.", autocompletion=_executors)
    ] = "local",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--executor-option", "-x", metavar="KEY=VALUE", help="An option of the executor, over the study's."
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also repeat runs that failed or diverged.")] = False,
    sharing: Annotated[
        bool,
        typer.Option("--sharing/--no-sharing", help="Begin runs with the training of others where it is the same."),
    ] = True,
    detach: Annotated[
        bool, typer.Option("--detach", help="On a cluster: submit the runs and leave them to it.")
    ] = False,
) -> None:
    """Run what is not done yet; a failed run stops none of the others."""
    from ablations import commands
    from ablations.chosen import choose_executor

    loaded, store = _load(study, results, profile)
    chosen = choose_executor(loaded, executor, option or (), workers, detach=detach)
    goes_on = "What runs or is queued goes on by itself; `ablations run` follows it again, `ablations cancel` stops it."
    stays = "What has ended is kept; `ablations run` goes on from there."
    with _stoppable(f"Stopped. {goes_on if chosen.outlasts else stays}"):
        completed = commands.run_study(loaded, store, _out(), only, chosen, retry, sharing=sharing)
    if detach and not completed:
        given = _given(study, results, profile)
        for line in (f"ablations status{given} shows how they stand, ablations cancel{given} stops them.", COME_BACK):
            _out().print(line, soft_wrap=True)
        raise typer.Exit(0)
    if completed and not only:
        _out().print(f"Next: ablations report{_given(study, results, profile)}", soft_wrap=True)
    raise typer.Exit(0 if completed else 1)


@app.command()
def status(
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what is done, running, missing, and what failed and why."""
    from ablations import commands

    loaded, store = _load(study, results, profile)
    commands.show_status(loaded, store, _out(), as_json)


@app.command()
def cancel(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ablations or variants; without, all.", autocompletion=_names)
    ] = None,
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
) -> None:
    """Stop what is queued or running, wherever it is."""
    from ablations import commands

    loaded, store = _load(study, results, profile)
    commands.cancel_runs(loaded, store, names or (), _out())


@app.command()
def report(
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
    paper: Annotated[str, typer.Option(help="Size of the PDF's pages: a4 or letter.")] = "a4",
) -> None:
    """Render the report, HTML and PDF, of whatever has run so far."""
    from ablations.reporting.render import render_report

    for path in render_report(study, results, profile, paper=paper):
        _out().print(f"{path.suffix[1:].upper():4} {path}", highlight=False, soft_wrap=True)


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
) -> None:
    """Copy what a report needs of the runs, to keep or send."""
    from ablations.packing import pack as pack_results

    loaded, store = _load(study, results, profile)
    runs = pack_results(loaded, store, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _out().print(f"{len(runs)} runs in {folder}, {size / 1e6:.1f} MB.", highlight=False, soft_wrap=True)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="A variant or an ablation.", autocompletion=_names)],
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: every number.")] = False,
) -> None:
    """Show what an arm changes, its runs, and why its verdict is what it is."""
    from ablations import explain as explaining

    loaded, store = _load(study, results, profile)
    explaining.show(loaded, explaining.explain(loaded, store, name), _out(), as_json)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Runs or variants; without, a sample.", autocompletion=_names)
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Recompute the report instead: of RESULTS/report, or the folder named.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every completed run.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="Size of the sample.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the sample: the same one draws the same runs.")] = 0,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference that counts as none, relative to numbers above 1.")
    ] = 1e-6,
    ignore: Annotated[list[str] | None, typer.Option(help="Leave this metric out (repeatable).")] = None,
    into: Annotated[Path | None, typer.Option(help="Keep the repetitions in this new folder.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: every number.")] = False,
) -> None:
    """Repeat recorded runs, or a report, and compare all numbers.

    Exit code 1 if one differs; docs/verify.md says what is compared with what."""
    from ablations.store import Store
    from ablations.verify import Wanted, verify_report, verify_runs

    if report:
        folder = Path(names[0]) if names else results / "report"
        raise typer.Exit(0 if verify_report(study, results, profile, folder, _out(), as_json) else 1)
    if study.exists():
        loaded, store = _load(study, results, profile)
    else:
        loaded, store = None, Store(results)
    wanted = Wanted(names or (), everything, sample, seed, tolerance, ignore or (), workers, into)
    with _stoppable("Stopped; nothing was compared, and the results are as they were."):
        same = verify_runs(store, loaded, wanted, _out(), as_json)
    raise typer.Exit(0 if same else 1)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A study's file (or FILE@COMMIT), a results folder, or a report's.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    results: Annotated[
        Path | None, typer.Option("--results", "-r", help="Results of a study's file; by default those beside it.")
    ] = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: every number.")] = False,
) -> None:
    """Show what changed between two studies or results, and why.

    Exit code 1 if anything did."""
    from ablations.diff import compare_sides, show
    from ablations.sides import read_side

    found = compare_sides(read_side(a, results, profile), read_side(b, results, profile))
    show(found, _out(), as_json)
    raise typer.Exit(0 if found.empty else 1)


@app.command()
def compare(
    table: Annotated[Path, typer.Argument(help="A CSV file: a row per run and metric.")],
    baseline: Annotated[str, typer.Option(help="The arm that the others are compared with.")],
    metric: Annotated[str, typer.Option(help="The metric to compare, or its column.")],
    direction: Annotated[str, typer.Option(help="max if more is better, else min.")] = "max",
    smallest_effect: Annotated[float | None, typer.Option(help="Smallest difference that would matter.")] = None,
    failure_value: Annotated[float | None, typer.Option(help="What a diverged run counts as.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Rate of false claims accepted.")] = None,
    correction: Annotated[str | None, typer.Option(help="For several arms: holm, or none.")] = None,
    looks: Annotated[int | None, typer.Option(help="How often these data are looked at, declared before.")] = None,
    select: Annotated[str | None, typer.Option(help="Metric whose best step counts, else the last step.")] = None,
    select_direction: Annotated[str, typer.Option(help="max if more of it is better, else min.")] = "max",
    variant: Annotated[str, typer.Option(help="Column of arms.")] = "variant",
    seed: Annotated[str, typer.Option(help="Column of seeds.")] = "seed",
    value: Annotated[str, typer.Option(help="Column of values.")] = "value",
    metric_column: Annotated[str, typer.Option(help="Column of metrics' names.")] = "metric",
    status: Annotated[str, typer.Option(help="Column of statuses.")] = "status",
    example: Annotated[str, typer.Option(help="Column of test examples.")] = "example",
    step: Annotated[str, typer.Option(help="Column of steps.")] = "step",
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: every number.")] = False,
) -> None:
    """Compare the arms of a table that was made elsewhere."""
    from ablations.analysis.table import Checkpoint, Columns
    from ablations.tables import compare_file

    columns = Columns(variant, seed, value, metric_column, status, example, step)
    selected = Checkpoint(select, select_direction) if select else None  # type: ignore[arg-type]  # checked there
    compare_file(
        table, _out(), as_json, columns=columns, checkpoint=selected, baseline=baseline,
        metric=metric, direction=direction, smallest_effect=smallest_effect, failure_value=failure_value, alpha=alpha,
        correction=correction, looks=looks,
    )  # fmt: skip


@app.command("import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="Folders, tables, or notebooks and scripts.")],
    tool: Annotated[
        str | None, typer.Option("--from", help="sacred, mlflow, wandb, csv or notebooks.", autocompletion=_tools)
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="Its KEY=VALUE (repeatable), or a run, arm or notebook; else proposed.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="The metric that decides; repeated, further columns that are scores.")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="max if more is better, else min.")] = None,
    smallest_effect: Annotated[float | None, typer.Option(help="Smallest difference that would matter.")] = None,
    seed: Annotated[str | None, typer.Option(help="Parameter with the seed; none if seeds make no pairs.")] = None,
    name: Annotated[str | None, typer.Option(help="Parameter or column that names arms.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Parameter that makes no difference; * and ? fit.")] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="Parameter that counts, whatever it looks like.")] = None,
    select: Annotated[str | None, typer.Option(help="Metric whose best step counts, else the last step.")] = None,
    select_direction: Annotated[str | None, typer.Option(help="max if more of it is better, else min.")] = None,
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
) -> None:
    """Take over runs made elsewhere, to report on them; nothing is re-run.

    Folders of Sacred, MLflow or W&B and tables become a study with results; copied notebooks, a study to run."""
    from ablations.importing.command import Choices, take

    given = (baseline or (), metric or (), direction, smallest_effect, seed, name, ignore or (), parameter or ())
    choices = Choices(*given, select, select_direction)
    print(f"{take(paths, tool, choices, study, results, _out())}{_given(study, results)}")


@app.command()
def doctor(
    study: StudyOption = STUDY,
    results: ResultsOption = RESULTS,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is safe: no result is deleted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Look over machine, versions, disk and results.

    Exit code 1 if something stands in the way; each problem comes with what to do about it."""
    from ablations.doctor import examine, show

    raise typer.Exit(0 if show(examine(study, results, fix), _out(), as_json) else 1)


def _load(study: Path, results: Path, profile: str | None) -> tuple[Study, Store]:
    from ablations.standing import standing
    from ablations.store import Store
    from ablations.study import load_study

    store = Store(results)
    return standing(load_study(study, profile), store), store


@contextlib.contextmanager
def _stoppable(what_then: str) -> Iterator[None]:
    """Takes SIGTERM and SIGHUP as Ctrl-C: runs must not train on without whoever started them."""

    asked = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]  # nohup
    before = [signal.signal(each, signal.default_int_handler) for each in asked]
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{what_then}", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        for each, handler in zip(asked, before, strict=True):
            signal.signal(each, handler)


def _out() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False)  # names are the user's: a bracket in them is no markup


def _given(study: Path, results: Path = RESULTS, profile: str | None = None) -> str:
    """The options that are not what they are by default, to be repeated in the next command."""
    options = [("--study", study, STUDY), ("--results", results, RESULTS), ("--profile", profile, None)]
    given = [text for name, value, default in options if value != default for text in (name, str(value))]
    return "".join(f" {shlex.quote(each)}" for each in given)


def _with_profile(study: Study) -> str:
    return f", profile {study.profile}" if study.profile else ""


def main() -> None:
    """The entry point: every expected error becomes a message on stderr and an exit code."""
    streams.prepare()
    try:
        app()
    except StudyError as error:
        count = len(error.problems)
        print(f"{error}\n{count} problem{'s' if count > 1 else ''} in {error.file}; nothing was run.", file=sys.stderr)
        sys.exit(2)
    except UnknownName as error:
        print(f"ablations: {error}", file=sys.stderr)
        sys.exit(2)
    except AblationsError as error:
        print(f"ablations: {error}", file=sys.stderr)
        sys.exit(3)
    except OSError as error:
        print(f"ablations: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
