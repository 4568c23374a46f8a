"""What the shell offers when Tab is pressed: the names that a study declares. Trouble with the file offers nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ablations.errors import AblationsError


def profiles(study: Path, begun: str) -> list[str]:
    """The profiles of a study whose names begin so."""
    from ablations.yamlfile import read_yaml

    try:
        data = read_yaml(study.read_text(encoding="utf-8")).data
    except (OSError, UnicodeDecodeError):
        return []
    declared = data.get("profiles") if isinstance(data, dict) else None
    return _beginning(declared if isinstance(declared, dict) else (), begun)


def names(study: Path, profile: str | None, begun: str) -> list[str]:
    """The variants and ablations of a study whose names begin so."""
    from ablations.plan import expand
    from ablations.study import load_study

    try:
        loaded = load_study(study, profile)
    except AblationsError:
        return []
    variants = [variant.name for variant in expand(loaded)]
    return _beginning(dict.fromkeys((*variants, *(each.name for each in loaded.ablations))), begun)


def _beginning(found: Iterable[str], begun: str) -> list[str]:
    return [name for name in found if name.startswith(begun)]
