"""From the configs of imported runs to a baseline and named changes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablations.drafts import name_text, value_text
from ablations.errors import AblationsError, one_of
from ablations.importing.factors import Planned, fingerprint
from ablations.importing.foreign import typed
from ablations.recorded import RecordedTunable

_ANY = RecordedTunable("", str, None, "", optional=True)
MAX_ARMS = 1000
Config = Mapping[str, Any]
Say = Callable[[str], None]


@dataclass
class Arm:
    """A distinct config, what its runs call it (empty where they do not), and these runs."""

    config: Config
    name: str = ""
    runs: list[Planned] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """An ablation to be written.

    Attributes:
        name: Its name.
        kind: ``set``, ``sweep``, ``combine`` or ``extends``.
        content: Settings; one parameter and its levels; names of variants; name of a variant and further settings.
    """

    name: str
    kind: str
    content: Any


def arms_of(planned: Iterable[Planned]) -> list[Arm]:
    """The distinct configs, in the order in which they first come."""
    found: dict[str, Arm] = {}
    for each in planned:
        arm = found.setdefault(fingerprint(each.config), Arm(each.config))
        arm.runs.append(each)
        arm.name = arm.name or each.name
    return list(found.values())


def difference(config: Config, baseline: Config) -> dict[str, Any]:
    """What differs from the baseline; what only the baseline has is null."""
    keys = dict.fromkeys((*baseline, *config))
    return {key: config.get(key) for key in keys if config.get(key) != baseline.get(key)}


# -- the baseline ---------------------------------------------------------------------------------------------


def chosen_baseline(arms: Sequence[Arm], asked: Sequence[str], note: Say) -> Arm:
    """The arm that the user names, or the one from which the others differ least.

    Args:
        arms: All.
        asked: ``key=value`` each, or one name of a run or arm; empty to propose one.
        note: Is told which, and why.

    Raises:
        AblationsError: No arm is meant, or a parameter is unknown.
    """
    candidates = _asked_for(arms, asked) if asked else list(arms)
    best = min(candidates, key=lambda arm: _distance(arm, arms))
    near = sum(len(difference(arm.config, best.config)) == 1 for arm in arms)
    if not asked:
        what = f"{near} of {len(arms) - 1} others differ from it in one parameter" if len(arms) > 1 else "the only one"
        note(f"baseline: {described(best, arms)}, proposed since {what} (--baseline names another)")
    elif len(candidates) > 1:
        note(f"baseline: {described(best, arms)}, of {len(candidates)} that fit the one from which others differ least")
    return best


def _distance(arm: Arm, arms: Sequence[Arm]) -> tuple[int, int]:
    """In how many parameters the others differ from it, and, for equals, how few runs it has."""
    return sum(len(difference(other.config, arm.config)) for other in arms), -len(arm.runs)


def _asked_for(arms: Sequence[Arm], asked: Sequence[str]) -> list[Arm]:
    pairs = [each.partition("=") for each in asked]
    if len(asked) == 1 and not pairs[0][1]:
        name = asked[0]
        found = [arm for arm in arms if any(name in (each.run.run, each.run.name, each.name) for each in arm.runs)]
        if not found:
            names = dict.fromkeys(each.name or each.run.run for arm in arms for each in arm.runs)
            raise AblationsError(f"--baseline: {one_of('run or arm', name, names)}")
        return found
    keys = dict.fromkeys(key for arm in arms for key in arm.config)
    wrong = [one_of("parameter", key, keys) for key, equals, _ in pairs if not equals or key not in keys]
    if wrong:
        raise AblationsError("\n".join(f"--baseline: {each}" for each in wrong))
    wanted = {key: _ANY.normal(typed(value)) for key, _, value in pairs}
    found = [arm for arm in arms if all(_same(arm.config[key], value) for key, value in wanted.items())]
    if not found:
        seen = "; ".join(f"{key} is {', '.join(_values(arms, key))}" for key in wanted)
        raise AblationsError(f"--baseline: no run has {' '.join(asked)}: {seen}")
    return found


def _same(value: Any, wanted: Any) -> bool:
    return value == wanted or value_text(value) == value_text(wanted)


def _values(arms: Iterable[Arm], key: str) -> list[str]:
    found = list(dict.fromkeys(value_text(arm.config.get(key)) for arm in arms))
    return found if len(found) <= 8 else [*found[:8], f"… {len(found) - 8} more"]


def described(arm: Arm, arms: Sequence[Arm]) -> str:
    """An arm by the parameters that vary."""
    varying = [key for key in arm.config if len({value_text(each.config.get(key)) for each in arms}) > 1]
    words = ", ".join(f"{key} {value_text(arm.config[key])}" for key in varying[:8])
    more = f" and {len(varying) - 8} more" if len(varying) > 8 else ""
    return (f"{arm.name} ({words}{more})" if arm.name and words else words + more) or "the one config there is"


# -- the others -----------------------------------------------------------------------------------------------


def entries_of(arms: Sequence[Arm], baseline: Config, taken: Collection[str], note: Say) -> list[Entry]:
    """An ablation for each config that is not the baseline's.

    Configs that differ in one and the same parameter become the levels of a sweep, unless they have names of their own;
    one whose change is that of several others together, a combination of these; one whose change goes on from that of a
    set of several, an extension of it.

    Args:
        arms: All.
        baseline: The baseline's config.
        taken: Names that are in use.
        note: Is told of arms whose names do not tell them apart.
    """
    changed = [(arm, difference(arm.config, baseline)) for arm in arms]
    changed = [(arm, change) for arm, change in changed if change]
    if len(changed) > MAX_ARMS:
        raise AblationsError(
            f"expected at most {MAX_ARMS} configs beside the baseline, found {len(changed)}: --ignore leaves "
            "parameters aside that are no settings"
        )
    names = _Names(taken)
    entries, single = _single(changed, baseline, names)
    entries += _several([each for each in changed if len(each[1]) > 1], single, names)
    for name, count in names.shared.items():
        note(f"{count} configs are called {name}: they are told apart by numbers")
    return entries


def _single(
    changed: Sequence[tuple[Arm, dict[str, Any]]], baseline: Config, names: _Names
) -> tuple[list[Entry], dict[tuple[str, str], str]]:
    """The ablations of one parameter, and the variant that each of its values makes."""
    by_key: dict[str, list[tuple[Arm, Any]]] = {}
    for arm, change in changed:
        if len(change) == 1:
            [(key, value)] = change.items()
            by_key.setdefault(key, []).append((arm, value))
    entries: list[Entry] = []
    single: dict[tuple[str, str], str] = {}
    for key, found in by_key.items():
        found.sort(key=lambda each: _order(each[1]))
        tells = [name_text(value).lower() for _, value in found]
        sweep = len(found) > 1 and not any(arm.name for arm, _ in found) and len(set(tells)) == len(tells)
        if sweep:
            name = names.new(_tail(key), "")
            entries.append(Entry(name, "sweep", (key, [value for _, value in found])))
            single |= {(key, value_text(value)): f"{name}={name_text(value)}" for _, value in found}
            continue
        for arm, value in found:
            plain = _tail(key) if len(found) == 1 else f"{_tail(key)}-{value_text(value)}"
            name = names.new(arm.name or plain, arm.name)
            entries.append(Entry(name, "set", {key: value}))
            single[key, value_text(value)] = name
    return entries, single


def _several(
    changed: Sequence[tuple[Arm, dict[str, Any]]], single: Mapping[tuple[str, str], str], names: _Names
) -> Iterable[Entry]:
    """The ablations of several parameters, those of fewer first, for others go on from them."""
    made: list[tuple[str, dict[str, Any]]] = []
    for arm, change in sorted(changed, key=lambda each: len(each[1])):
        parts = [single.get((key, value_text(value))) for key, value in change.items()]
        known = [part for part in parts if part]
        start = next((each for each in reversed(made) if len(each[1]) < len(change) and _within(each[1], change)), None)
        if len(known) == len(change):
            name = names.new(arm.name or "+".join(known), arm.name)
            yield Entry(name, "combine", known)
        elif start:
            further = {key: value for key, value in change.items() if key not in start[1]}
            name = names.new(arm.name or "+".join([start[0], *map(_tail, further)]), arm.name)
            yield Entry(name, "extends", (start[0], further))
        else:
            name = names.new(arm.name or "+".join(map(_tail, change)), arm.name)
            yield Entry(name, "set", change)
        made.append((name, change))


def _within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    return all(key in whole and whole[key] == value for key, value in part.items())


def _order(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, value_text(value))


def _tail(key: str) -> str:
    """The last part of a parameter's name."""
    return re.split(r"[./]", key)[-1].replace("_", "-") or key


class _Names:
    """Names of ablations: of the allowed characters, each once, whatever the case."""

    def __init__(self, taken: Collection[str]):
        self._taken = {"baseline", *(name.lower() for name in taken)}
        self.shared: dict[str, int] = {}

    def new(self, wanted: str, given: str) -> str:
        """A name as wanted, or with a number; one that runs gave themselves is noted where it is not enough."""
        name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", wanted).strip("-")
        name = (name if name[:1].isalpha() else f"arm-{name}")[:60].rstrip("-") or "arm"
        number, found = 1, name
        while found.lower() in self._taken:
            number += 1
            found = f"{name[:56]}-{number}"
        self._taken.add(found.lower())
        if given and number > 1 and name.lower() != "baseline":
            self.shared[given] = number
        return found
