"""Runs that were made elsewhere, read from the files that other tools keep, as a study and its results.

Nothing of what is read is executed or unpickled, and no tool whose files are read is imported.
"""
