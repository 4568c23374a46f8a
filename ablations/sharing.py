"""Which runs begin with the training of another one, so that what they have in common is computed once.

An experiment says of a config what decides each step of its training, how long that is, and what merely looks at it
(``Config.trunk``, see :class:`ablations.schema.Trunk`). Two runs of one seed that agree in the first have a training in
common: the longer one goes on where the shorter one ends, and one that is only scored in another way has the weights
scored again that the first one had when it was. What is taken over lies in the first run's folder, ``trunk/``, for as
long as a run of the launch may need it. Where it is missing or does not fit, a run trains whole: nothing but time
depends on it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ablations.plan import RunKey, Saved, Variant, config_hash
from ablations.schema import Trunk
from ablations.store import Store, job_of

NAME = "trunk"
Keeps = Literal["state", "trail"]
TrunkOf = Callable[[Mapping[str, Any]], Trunk | None]


@dataclass(frozen=True)
class Sharing:
    """What the runs of one launch take over from each other.

    Attributes:
        sources: By id of a run: that whose training it begins with.
        keeps: By id of a run: what it leaves for others: its ``state`` at the end, or also the ``trail`` of weights
            that were scored on the way.
        saved: By id of a run: how much of it that spares.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, Keeps] = field(default_factory=dict)
    saved: Mapping[str, Saved] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)  # runs that have taken over what they can

    def at_once(self, todo: Iterable[RunKey]) -> Sharing:
        """What of it is left where all of ``todo`` begins at once: only what lies there already is taken over."""
        made = {key.run_id for key in todo}
        saved = {run_id: each for run_id, each in self.saved.items() if each.source not in made}
        return Sharing({run_id: each.source for run_id, each in saved.items()}, saved=saved)

    def source_of(self, run_id: str) -> str | None:
        """The run whose training another begins with, if any."""
        return self.sources.get(run_id)

    def ordered(self, todo: Sequence[RunKey]) -> list[RunKey]:
        """The same runs, each after the one that it takes over from, which comes as early as need be."""
        waiting = {key.run_id: key for key in todo}
        ordered: list[RunKey] = []

        def place(run_id: str | None) -> None:
            key = waiting.pop(run_id or "", None)
            if key is not None:
                place(self.sources.get(key.run_id))
                ordered.append(key)

        for each in todo:
            place(each.run_id)
        return ordered

    def settings_of(self, store: Store, run_id: str) -> dict[str, str]:
        """What a run is told: what to keep, and from which run to take over what lies there by now."""
        told: dict[str, str] = {}
        if run_id in self.keeps:
            told["keeps"] = self.keeps[run_id]
        source = self.sources.get(run_id)
        if source is not None and trunk_of(store, source).is_dir():
            told["takes_over"] = source
        return told

    def is_kept(self, store: Store, run_id: str) -> bool:
        """Whether a run that another process runs was told there to leave something for others."""
        return "keeps" in ((job_of(store.run_dir(run_id)) or {}).get("settings") or {})

    def ended(self, store: Store, run_id: str) -> None:
        """Removes what a run has taken over, unless another one needs it, or this one once more."""
        source = self.sources.get(run_id)
        if source is None or store.status(run_id) in ("interrupted", "running", "missing"):
            return
        self._left.add(run_id)
        if all(taker in self._left for taker, each in self.sources.items() if each == source):
            shutil.rmtree(trunk_of(store, source), ignore_errors=True)


def trunk_of(store: Store, run_id: str) -> Path:
    """Where a run leaves what others take over."""
    return store.run_dir(run_id) / NAME


def share(
    todo: Sequence[RunKey], variants: Mapping[str, Variant], trunk: TrunkOf, left: Iterable[RunKey] = ()
) -> Sharing:
    """Plans who takes over from whom.

    Args:
        todo: The runs of a launch.
        variants: By name.
        trunk: Of a config; see :class:`~ablations.schema.Trunk`.
        left: Runs that have left what others can take over; of those in ``todo``, which were broken off, it is theirs.
    """
    planned = {key.run_id for key in todo}
    ended = [key for key in left if key.run_id not in planned]
    names = {key.variant for key in (*ended, *todo)}
    trunks = {name: own for name in names if (own := trunk(variants[name].config)) is not None}
    identities = {name: config_hash("", own.decides) for name, own in trunks.items()}
    found: dict[tuple[str, int], list[_Shared]] = {}
    for place, key in enumerate([*ended, *todo]):
        if key.variant in trunks:
            shared = _Shared(trunks[key.variant], place, key.run_id)
            found.setdefault((identities[key.variant], key.seed), []).append(shared)
    saved: dict[str, Saved] = {}
    keeps: dict[str, Keeps] = {}
    for group in found.values():
        _share(sorted(group, key=lambda each: (each.trunk.length, each.place)), planned, saved, keeps)
    return Sharing({run_id: each.source for run_id, each in saved.items()}, keeps, saved)


@dataclass(frozen=True)
class _Shared:
    trunk: Trunk
    place: int
    run_id: str


def _share(group: Sequence[_Shared], planned: set[str], saved: dict[str, Saved], keeps: dict[str, Keeps]) -> None:
    """Plans for runs that have a training in common, the shortest first.

    A run takes over from the longest that is no longer than itself, best from one that is scored as it is. One that has
    another's weights scored again has none of its own to leave.
    """
    able: list[_Shared] = []
    anew: list[str] = []
    for each in group:
        alike = [other for other in able if other.trunk.scored == each.trunk.scored]
        source = next(reversed(alike or able), None)
        if source is None or each.run_id not in planned:
            able.append(each)
            continue
        part = source.trunk.length / each.trunk.length if each.trunk.length else 1.0
        saved[each.run_id] = Saved(source.run_id, training=part, validation=part if alike else 0.0)
        keeps.setdefault(source.run_id, "state")
        if alike:
            able.append(each)
        else:
            anew.append(source.run_id)
    for source_id in anew:
        at: str | None = source_id
        while at is not None:  # what it took over itself is part of its trail
            keeps[at] = "trail"
            at = saved[at].source if at in saved else None


def share_planned(
    planned: Sequence[RunKey], todo: Sequence[RunKey], variants: Mapping[str, Variant], trunk: TrunkOf, store: Store
) -> Sharing:
    """Plans who of a launch takes over from whom, also from runs that an earlier launch has made.

    Args:
        planned: All runs of the study. What no open one of them needs any more is removed.
        todo: Those of the launch.
        variants: By name.
        trunk: Of a config.
        store: Where runs are kept.
    """
    left = [key for key in planned if trunk_of(store, key.run_id).is_dir()]
    if left:
        needed = share(store.unsettled(planned), variants, trunk, left).sources.values()
        left = clear(store, left, needed)
    return share(todo, variants, trunk, left)


def foresee(
    planned: Sequence[RunKey], todo: Sequence[RunKey], variants: Mapping[str, Variant], trunk: TrunkOf, store: Store
) -> Sharing:
    """What :func:`share_planned` would say; removes nothing."""
    left = [key for key in planned if trunk_of(store, key.run_id).is_dir()]
    return share(todo, variants, trunk, [key for key in left if store.status(key.run_id) != "running"])


def clear(store: Store, keys: Iterable[RunKey], needed: Iterable[str]) -> list[RunKey]:
    """Removes what runs have left for others that no longer need it; returns the runs whose is still there.

    Args:
        store: Where runs are kept.
        keys: Runs that may have left something.
        needed: Ids of the runs whose is needed.
    """
    wanted, kept = set(needed), []
    for key in keys:
        if not trunk_of(store, key.run_id).is_dir() or store.status(key.run_id) == "running":
            continue
        if key.run_id in wanted:
            kept.append(key)
        else:
            shutil.rmtree(trunk_of(store, key.run_id), ignore_errors=True)
    return kept


def taken_over(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run took over, as its record says: ``run_id``, ``steps``, ``seconds``, ``how``; empty for nothing."""
    return (record.get("info") or {}).get("taken_over") or {}
