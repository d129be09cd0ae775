"""Measurements: each file is a command that prints a table and writes JSON beside the machine's description."""
