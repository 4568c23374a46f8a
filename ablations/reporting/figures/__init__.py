"""Figures: each takes numbers and gives a matplotlib figure and its alternative text from the same numbers."""
