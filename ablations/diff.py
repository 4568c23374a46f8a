"""``ablations diff A B``: which arms came, went or changed, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from ablations.console import plain_table
from ablations.drafts import value_text
from ablations.sides import Arm, Side

CLOSE = 1e-12
_CUT = ("code", "commit", "data")


@dataclass(frozen=True)
class Changed:
    """An arm that is on both sides and not the same.

    Attributes:
        arm: Its name, or ``old → new`` where only the name of a config changed.
        verdict: Verdict on either side, empty for the baseline.
        score: Mean score on either side.
        difference: Difference from the baseline on either side.
        because: What differs between the sides that can explain it, in words; empty where nothing that is recorded
            does.
    """

    arm: str
    verdict: tuple[str, str]
    score: tuple[float | None, float | None]
    difference: tuple[float | None, float | None]
    because: tuple[str, ...]


@dataclass(frozen=True)
class Diff:
    """What differs between two sides.

    Attributes:
        a: Name of the first side.
        b: Name of the second.
        rules: Rules of the verdicts that differ: name to (A, B).
        added: Arms that only B has.
        removed: Arms that only A has.
        changed: Arms whose verdict, score, difference or config is not the same.
        unchanged: Names of the others.
    """

    a: str
    b: str
    rules: Mapping[str, tuple[Any, Any]]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Changed, ...]
    unchanged: tuple[str, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether the two are the same."""
        return not (self.rules or self.added or self.removed or self.changed)


def compare_sides(a: Side, b: Side) -> Diff:
    """Finds what differs between two sides."""
    renamed = _renamed(a, b)
    pairs = [(arm, b.arms[name]) for name, arm in a.arms.items() if name in b.arms]
    pairs += [(a.arms[old], b.arms[new]) for old, new in renamed.items()]
    rules = {name: (a.rules[name], b.rules[name]) for name in a.rules if name in b.rules}
    rules = {name: (was, now) for name, (was, now) in rules.items() if was != now}
    common: list[str] = []  # what changed the baseline, and is not said again of every arm
    changed, unchanged = [], []
    for was, now in pairs:
        is_baseline = was.name == next(iter(a.arms)) and now.name == next(iter(b.arms))
        if _same(was, now):
            unchanged.append(was.name)
            continue
        name = was.name if was.name == now.name else f"{was.name} → {now.name}"
        own = list(_reasons(was, now, rules))
        because = tuple(each for each in own if each not in common)
        if is_baseline:
            common = own
        elif common:
            because = ("what changed the baseline", *because)
        verdicts, scores = (was.verdict, now.verdict), (was.mean, now.mean)
        changed.append(Changed(name, verdicts, scores, (was.difference, now.difference), because))
    return Diff(
        a=a.name,
        b=b.name,
        rules=rules,
        added=tuple(name for name in b.arms if name not in a.arms and name not in renamed.values()),
        removed=tuple(name for name in a.arms if name not in b.arms and name not in renamed),
        changed=tuple(changed),
        unchanged=tuple(unchanged),
    )


def _renamed(a: Side, b: Side) -> dict[str, str]:
    """Arms with the same config under another name: old to new."""
    fresh = {arm.config_hash: name for name, arm in b.arms.items() if name not in a.arms and arm.config_hash}
    gone = {name: arm.config_hash for name, arm in a.arms.items() if name not in b.arms}
    return {name: fresh[digest] for name, digest in gone.items() if digest in fresh}


def _same(was: Arm, now: Arm) -> bool:
    return (
        was.name == now.name
        and was.verdict == now.verdict
        and was.config_hash == now.config_hash
        and was.statuses == now.statuses
        and _close(was.mean, now.mean)
        and _close(was.difference, now.difference)
    )


def _close(a: float | None, b: float | None) -> bool:
    """Whether two numbers are the same but for the last digits that a sum leaves open."""
    if a is None or b is None:
        return a is b
    return abs(a - b) <= CLOSE * max(1.0, abs(a))


# -- why ------------------------------------------------------------------------------------------------------


def _reasons(was: Arm, now: Arm, rules: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """What can explain that an arm is not the same, the nearest cause first."""
    if was.name != now.name:
        yield "renamed, the same config"
    yield from _config(was, now)
    yield from _runs(was, now)
    if was.verdict != now.verdict:
        yield from (f"rule {name} {value_text(a)} → {value_text(b)}" for name, (a, b) in rules.items())
        if was.family_size != now.family_size:
            yield f"corrected with {was.family_size} → {now.family_size} arms"


def _config(was: Arm, now: Arm) -> Iterator[str]:
    if was.config_hash == now.config_hash:
        return
    if was.config is None or now.config is None:
        yield f"config {was.config_hash[:12]} → {now.config_hash[:12]}"
        return
    keys = dict.fromkeys((*was.config, *now.config))
    apart = [(key, was.config.get(key), now.config.get(key)) for key in keys]
    said = [f"{key} {value_text(a)} → {value_text(b)}" for key, a, b in apart if a != b]
    yield from said or ["another experiment"]


def _runs(was: Arm, now: Arm) -> Iterator[str]:
    """What the runs of an arm say: other seeds, other outcomes, made by other code, on other data, elsewhere."""
    added = [f"+{seed}" for seed in now.runs if seed not in was.runs]
    removed = [f"−{seed}" for seed in was.runs if seed not in now.runs]
    if added or removed:
        yield f"seeds {', '.join((*added, *removed))}"
    both = [(was.runs[seed], now.runs[seed]) for seed in was.runs if seed in now.runs]
    ends: dict[tuple[str, str], list[str]] = {}
    for old, new in both:
        if old.status != new.status:
            ends.setdefault((old.status, new.status), []).append(old.seed)
    for (old_status, new_status), seeds in ends.items():
        yield f"{_seeds(seeds)} {old_status} → {new_status}"
    made = list(_made(was, now))
    yield from made
    scored = [(old, new) for old, new in both if old.score is not None and new.score is not None]
    other = [old.seed for old, new in scored if old.score != new.score]
    if other and not made and was.config_hash == now.config_hash:
        yield f"{_seeds(other)}: other scores from the same config, code, data and environment (an edited record?)"


def _seeds(seeds: Sequence[str]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def _made(was: Arm, now: Arm) -> Iterator[str]:
    names = dict.fromkeys(name for arm in (was, now) for run in arm.runs.values() for name in run.made)
    same_code = was.made("code") == now.made("code") != ()
    for name in names:
        old, new = was.made(name), now.made(name)
        if old and new and old != new and not (name == "commit" and same_code):
            yield f"{name} {_listed(name, old)} → {_listed(name, new)}"


def _listed(name: str, found: Sequence[str]) -> str:
    return " and ".join(each[:12] if name in _CUT else each for each in found)


# -- words ----------------------------------------------------------------------------------------------------


def show(found: Diff, out: Console, as_json: bool) -> None:
    """Prints a difference, as words or as JSON."""
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    out.print(Text(f"A  {found.a}\nB  {found.b}"), soft_wrap=True)
    out.print()
    if found.empty:
        out.print(f"No difference in {_arms(found.unchanged)}.")
        return
    for name, (was, now) in found.rules.items():
        out.print(Text(f"rule     {name} {value_text(was)} → {value_text(now)}"), soft_wrap=True)
    for word, names in (("added", found.added), ("removed", found.removed)):
        if names:
            out.print(Text(f"{word:8} {', '.join(names)}"), soft_wrap=True)
    if found.changed:
        rows = [
            (Text(each.arm), Text(_moved(*map(_verdict, each.verdict))), _moved(*(_number(x) for x in each.score)),
             _moved(*(_number(x, signed=True) for x in each.difference)))
            for each in found.changed
        ]  # fmt: skip
        out.print(plain_table(("changed", "verdict", "score", "difference"), rows))
        out.print()
        for each in found.changed:
            because = "; ".join(each.because) or "nothing that is recorded explains it"
            out.print(Text(f"{each.arm}: {because}."), soft_wrap=True)
    out.print(f"\n{_arms(found.unchanged)} {'is' if len(found.unchanged) == 1 else 'are'} the same.")


def _arms(names: Sequence[str]) -> str:
    return f"{len(names)} {'arm' if len(names) == 1 else 'arms'}"


def _moved(was: str, now: str) -> str:
    return was if was == now else f"{was} → {now}"


def _verdict(verdict: str) -> str:
    return verdict.replace("_", " ") or "–"


def _number(value: float | None, *, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.4f}" if signed else f"{value:.4f}"
