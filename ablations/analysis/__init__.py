"""Numbers only, on DataFrames: comparisons, verdicts, trends, curves. Wording and drawing live in ``reporting``."""
