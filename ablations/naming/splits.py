"""Which files, projects or rows go to which split: decided by a seed, by nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ablations.errors import DataError

_SHUFFLES = 8  # drawn from the seed; the one whose shares come nearest is taken
_MANY = 5000  # groups of which any shuffle comes near


def assign(sizes: Mapping[str, int], shares: Mapping[str, float], seed: int, unit: str) -> dict[str, str]:
    """Assigns whole groups to splits so that the shares of functions are approximated.

    Each shuffle of the groups fills the carved splits one after the other, a group at a time as long as that
    brings the split nearer to its share; what is left is ``train``.

    Args:
        sizes: Number of functions by group.
        shares: Share of functions by carved split, e.g. ``{"validation": 0.1, "test": 0.1}``.
        seed: Decides the shuffles.
        unit: What a group is, in the plural, for the error.

    Returns:
        Split by group; each split gets one group at least.

    Raises:
        DataError: There are fewer groups than splits.
    """
    if len(sizes) <= len(shares):
        raise DataError(f"a split by {unit} needs at least {len(shares) + 1} {unit}, found {len(sizes)}")
    total = max(sum(sizes.values()), 1)
    best: tuple[float, dict[str, str]] | None = None
    for shuffle in range(_SHUFFLES if len(sizes) <= _MANY else 1):
        order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}:{shuffle}:{group}".encode()).digest())
        splits = _fill(order, sizes, {split: share * total for split, share in shares.items()})
        missed = sum(
            abs(sum(sizes[group] for group in sizes if splits[group] == split) / total - share)
            for split, share in shares.items()
        )
        if best is None or missed < best[0]:
            best = missed, splits
    return best[1] if best else {}


def _fill(order: Sequence[str], sizes: Mapping[str, int], targets: Mapping[str, float]) -> dict[str, str]:
    left, splits = list(order), dict[str, str]()
    for later, (split, target) in enumerate(targets.items(), start=1):
        reserved = len(targets) - later + 1  # one group for each split still to come, train among them
        taken = _nearest(left[:], sizes, target, len(left) - reserved)
        splits.update(dict.fromkeys(taken, split))
        left = [group for group in left if group not in splits]
    return {**splits, **dict.fromkeys(left, "train")}


def _nearest(order: list[str], sizes: Mapping[str, int], target: float, most: int) -> list[str]:
    taken, filled = list[str](), 0
    for group in order:
        if len(taken) == most:
            break
        if abs(filled + sizes[group] - target) < abs(filled - target):
            taken.append(group)
            filled += sizes[group]
    return taken or [min(order, key=lambda group: sizes[group])]
