"""Everything that can go wrong, as plain exceptions. Only ``cli.py`` turns them into exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MOST_SHOWN = 100  # problems of one file; whoever has more mends these first
LONGEST_NAME = 160  # characters of a name that means nothing here
LONGEST_SHOWN = 1200  # characters of a message, 160 of a path: both may quote names of any length


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a study.

    Attributes:
        line: 1-based line in the file; 0 where no line applies.
        path: Path inside the file, e.g. ``ablations.layers.sweep``; empty for the whole file.
        message: What was expected, what was found, and what to do.
    """

    line: int
    path: str
    message: str


class AblationsError(Exception):
    """Base of every error this package raises on purpose; its text is fit for a user's eyes."""


class StudyError(AblationsError):
    """A study that cannot be run; carries every problem found, not the first one.

    Attributes:
        file: The study file as the user named it.
        problems: All problems, in the order of their lines.
    """

    def __init__(self, file: str, problems: Iterable[Problem]):
        self.file = file
        self.problems = tuple(sorted(problems))
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = []
        for problem in self.problems[:MOST_SHOWN]:
            place = f"{self.file}:{problem.line}" if problem.line else self.file
            path = f" {visible(problem.path, 160)}:" if problem.path else ""
            lines.append(f"{place}:{path} {visible(problem.message, LONGEST_SHOWN)}")
        if len(self.problems) > MOST_SHOWN:
            lines.append(f"{self.file}: … and {len(self.problems) - MOST_SHOWN} more problems")
        return "\n".join(lines)


class UnknownName(AblationsError):
    """A name on the command line that means nothing here."""


class RunFailed(AblationsError):
    """A run that ended without a result; its text carries the cause."""


class Diverged(AblationsError):
    """Training left the finite numbers; its text says at which step and what was seen."""


class OutOfMemory(RunFailed):
    """A run that needs more memory than its device has; its text says what it was doing and what to change."""


class MissingRuns(AblationsError):
    """An analysis was asked for runs that do not exist."""


class DataError(AblationsError):
    """A corpus or pretrained model that is not there or not what it should be."""


class RenderError(AblationsError):
    """A report that could not be rendered; its text carries the renderer's own words."""


def visible(text: str, most: int) -> str:
    r"""One line in which every character is seen and none acts on the terminal or turns the writing round.

    Args:
        text: Any text.
        most: Longest result; the middle of a longer one is left out.

    >>> visible("a\n\x1b[2J\u202eb", 80)
    'a\\n\\x1b[2J\\u202eb'
    """
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
    half = (most - 1) // 2
    return line if len(line) <= most else f"{line[:half]}…{line[-half:]}"


def one_of(kind: str, found: object, valid: Iterable[object]) -> str:
    """Says that a name is unknown, which valid one is nearest, and which are valid.

    >>> one_of("metric", "f2", ["f1", "recall"])
    "unknown metric 'f2'; did you mean 'f1'? (valid: f1, recall)"
    """
    names, given = [str(name) for name in valid], str(found)
    given = given if len(given) <= LONGEST_NAME else given[: LONGEST_NAME - 1] + "…"
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if not near:  # the last part of a dotted key is what people remember
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        tail = difflib.get_close_matches(given.rsplit(".", 1)[-1], tails, n=1, cutoff=0.6)
        near = [tails[tail[0]]] if tail else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if not names:
        return f"unknown {kind} {given!r} (there is none)"
    shown = names if len(names) <= 12 else [*names[:12], f"… {len(names) - 12} more"]
    return f"unknown {kind} {given!r}{hint} (valid: {', '.join(shown)})"
