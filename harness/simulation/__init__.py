"""Simulated scores and studies of known truth."""
