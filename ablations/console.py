"""What the terminal shows: live progress for a person, a line an event for a pipe, tables, durations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.launch import Active, Ended, Snapshot

SYMBOLS = {
    "completed": ("✓", "green"),
    "pruned": ("✂", "dim"),
    "running": ("▸", "cyan"),
    "queued": ("…", "cyan"),
    "missing": ("·", "dim"),
    "interrupted": ("↺", "yellow"),
    "diverged": ("∞", "red"),
    "failed": ("✗", "red"),
}
QUIET_EVERY_S = 60.0
DAY = 24  # hours


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42.3), duration(200), duration(4000), duration(400_000)
    ('42 s', '3 min 20 s', '1 h 07 min', '4 days 15 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 2 * DAY:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), DAY)
    return f"{days} days {hours} h" if days < 10 else f"{days} days"


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Sequence[str] = ()) -> Table:
    """A table without boxes; the columns named in ``right`` are aligned right."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def status_text(status: str, count: int | None = None) -> Text:
    """A status with its symbol and colour; the word is always there."""
    symbol, style = SYMBOLS[status]
    return Text(f"{symbol} {status}" if count is None else f"{symbol} {count} {status}", style=style)


def _ended_line(run: Ended, metric: str) -> Text:
    line = status_text(run.status)
    line.append(f"  {run.key.variant}, seed {run.key.seed}", style="default")
    score = f"{metric} {run.score:.3f}, " if run.score is not None else ""
    line.append(f"  {score}{duration(run.seconds)}", style="dim")
    if run.cause:
        line.append(f"\n    {run.cause}", style="red")
    return line


class PlainWatcher:
    """For a pipe: a line when a run ends, and one a minute on what is left."""

    def __init__(self, console: Console, metric: str, runs_go_on: bool = False):
        self._console, self._metric, self._runs_go_on = console, metric, runs_go_on
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        _say_stopping(self._console, kind, self._runs_go_on)

    def ended(self, run: Ended, snapshot: Snapshot) -> None:
        """Says how a run ended."""
        counted = Text(f"[{snapshot.ended}/{snapshot.total}] ")
        self._console.print(counted + _ended_line(run, self._metric), soft_wrap=True)

    def tick(self, snapshot: Snapshot) -> None:
        """Says once a minute what is left."""
        if time.monotonic() - self._said < QUIET_EVERY_S or snapshot.ended == snapshot.total:
            return
        self._said = time.monotonic()
        self._console.print(_overall(snapshot), soft_wrap=True)


class LiveWatcher:
    """For a terminal: ended runs scroll by, those in progress stay below with their bars."""

    def __init__(self, console: Console, metric: str, runs_go_on: bool = False):
        self._console, self._metric, self._runs_go_on = console, metric, runs_go_on
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._live.__exit__(None, None, None)
        _say_stopping(self._console, kind, self._runs_go_on)

    def ended(self, run: Ended, snapshot: Snapshot) -> None:
        """Lets a line on the run scroll by."""
        self._console.print(_ended_line(run, self._metric))

    def tick(self, snapshot: Snapshot) -> None:
        """Redraws the runs in progress."""
        table = Table.grid(padding=(0, 2))
        for run in snapshot.active:
            table.add_row(*_active_row(run))
        bar = ProgressBar(total=snapshot.total, completed=_done(snapshot), width=40)
        self._live.update(Group(Text(""), table, Text(""), bar, Text(_overall(snapshot))))


def watcher(console: Console, metric: str, runs_go_on: bool = False) -> LiveWatcher | PlainWatcher:
    """The one that suits where the output goes.

    Args:
        console: The terminal.
        metric: What is told of ended runs.
        runs_go_on: Whether runs go on when nobody waits for them any more.
    """
    kind = LiveWatcher if console.is_terminal else PlainWatcher
    return kind(console, metric, runs_go_on)


def _say_stopping(console: Console, kind: type[BaseException] | None, runs_go_on: bool) -> None:
    if kind is not None and issubclass(kind, KeyboardInterrupt) and not runs_go_on:
        console.print("Stopping: what runs keeps a checkpoint first. Once more, and it stops at once.", soft_wrap=True)


def _active_row(run: Active) -> tuple[Text, ProgressBar, str, str]:
    name = Text(f"▸ {run.key.variant}, seed {run.key.seed}", style="cyan")
    progress = run.progress
    if progress is None:
        return name, ProgressBar(total=1, completed=0, width=24), "starting", duration(run.seconds)
    steps = f"step {progress.step}" + (f" of {progress.steps}" if progress.steps else "")
    shown = [value for value in ("train_loss", "validation_f1") if progress.values.get(value) is not None]
    values = ", ".join(f"{name.replace('_', ' ')} {progress.values[name]:.3f}" for name in shown)
    return name, ProgressBar(total=1, completed=run.share, width=24), steps, values


def _done(snapshot: Snapshot) -> float:
    return snapshot.ended + sum(run.share for run in snapshot.active)


def _overall(snapshot: Snapshot) -> str:
    left = f", about {duration(snapshot.seconds_left)} left" if snapshot.seconds_left is not None else ""
    waiting = "".join(f"{count} waiting ({reason}), " for reason, count in snapshot.waits_for)
    return (
        f"{snapshot.ended} of {snapshot.total} runs ended, {len(snapshot.active)} running, {waiting}"
        f"{duration(snapshot.seconds)} gone{left}"
    )
