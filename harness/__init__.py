"""Asks the questions: searches, ablations and their reports. The only package that knows Optuna, Ray and MLflow."""
