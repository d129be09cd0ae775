#!/bin/sh
# An MLflow server for a group. BACKEND: where runs are kept; ARTIFACTS: where files are kept; HOST, PORT: where it listens.
# Addresses may hold passwords, so they reach MLflow by its variables: arguments stand in the list of processes.
set -eu
export MLFLOW_BACKEND_STORE_URI="${BACKEND:-sqlite:///runs/mlflow.db}"
export MLFLOW_ARTIFACTS_DESTINATION="${ARTIFACTS:-runs/mlartifacts}"
exec mlflow server --host "${HOST:-127.0.0.1}" --port "${PORT:-5000}"
