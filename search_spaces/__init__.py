"""Declared searches: one file each, the file name is NAME in ``python -m harness.search NAME``."""
