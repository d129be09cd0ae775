#!/bin/sh
# An MLflow server for a group. BACKEND: where runs are kept; ARTIFACTS: where files are kept; HOST, PORT: where it listens.
set -eu
BACKEND=${BACKEND:-sqlite:///runs/mlflow.db}
ARTIFACTS=${ARTIFACTS:-runs/mlartifacts}
exec mlflow server --backend-store-uri "$BACKEND" --artifacts-destination "$ARTIFACTS" \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-5000}"
