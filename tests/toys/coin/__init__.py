"""A study's experiment of milliseconds: tosses a weighted coin. Made to fail on demand."""
