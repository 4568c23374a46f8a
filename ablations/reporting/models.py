"""What the models are: the quantity their loss is, and what their decoders started from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, bullets, join, section, table
from ablations.reporting.text import code, count, escape, magnitude


def loss_units(ctx: Context) -> dict[str, str]:
    """What the loss of each variant is, where its records say so."""
    return {name: str(each) for name, each in _said(ctx, "loss_unit").items()}


def _said(ctx: Context, key: str) -> dict[str, Any]:
    """A fact of each variant's first completed run, by variant; those that record none are left out."""
    found = {}
    for variant in ctx.variants:
        for record in ctx.records_of(variant.name)[:1]:
            kept = (record.get("info") or {}).get(key)
            if kept:
                found[variant.name] = kept
    return found


def models(ctx: Context, folder: Path) -> str:
    """Which losses compare, and the warm starts."""
    blocks = _losses(loss_units(ctx)), _warm_starts(_said(ctx, "warm_start"))
    return section("Losses and warm starts", "models", *blocks, level=2)


def _losses(units: Mapping[str, str]) -> str:
    if not units:
        return ""
    kinds: dict[str, list[str]] = {}
    for name, unit in units.items():
        kinds.setdefault(unit, []).append(name)
    if len(kinds) == 1:
        return f"The loss of all arms is in {escape(next(iter(kinds)))}."
    lines = [f"{escape(unit)}: {_named(names)}" for unit, names in kinds.items()]
    return join(
        f"The arms have {len(kinds)} kinds of loss, which are different quantities: only arms of one kind compare on "
        "loss. F1, precision and recall compare throughout.",
        bullets(lines),
    )


def _named(names: list[str]) -> str:
    shown = ", ".join(map(code, names[:8]))
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


PARTS = {"copied": "Copied", "new": "New", "not_taken": "Did not fit"}


def _warm_starts(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return ""
    columns = [
        Column("Arm"),
        Column("Checkpoint"),
        Column("Copied", "right"),
        Column("New", "right"),
        Column("Did not fit", "right"),
        Column("New, by name"),
    ]
    rows = []
    for arm, start in found.items():
        sizes = [_size(start.get(part)) for part in PARTS]
        rows.append([code(arm), code(start.get("checkpoint", "")), *sizes, _names(start.get("new"))])
    caption = (
        "Decoders that started from a pretrained checkpoint: parameters (tensors) that were copied, that are new since "
        "the checkpoint has none such, and those of the checkpoint that the decoder did not take."
    )
    return table(columns, rows, label="warmstart", caption=caption)


def _size(part: object) -> str:
    if not isinstance(part, dict):
        return count(None)
    return f"{magnitude(part.get('parameters'))} ({count(part.get('tensors'))})"


def _names(part: object) -> str:
    """The modules that hold what is new, each once: single parameters are too many for a table."""
    names = (part.get("names") or {}) if isinstance(part, dict) else {}
    modules = list(dict.fromkeys(_module(str(name)) for name in names))
    shown = ", ".join(code(name) for name in modules[:4])
    return shown if len(modules) <= 4 else f"{shown} and {len(modules) - 4} more"


def _module(name: str) -> str:
    """The part of the model that a parameter belongs to.

    >>> _module("bert.encoder.layer.*.crossattention.self.query.weight"), _module("lm_head.bias")
    ('crossattention', 'lm_head')
    """
    _, inside, rest = name.partition(".layer.*.")
    return rest.partition(".")[0] if inside else name.removeprefix("bert.").rpartition(".")[0] or name
