"""Runs trials: plans, Ray Tune's end, the engine and what searches it."""
