"""Ways to run a run's folder: one module each; an executor knows a folder, not a model."""
