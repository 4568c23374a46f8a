"""Reproducible ablation studies."""

__version__ = "0.1.0"
