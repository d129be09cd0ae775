#!/bin/sh
# An MLflow server for a group. Its settings are MLflow's variables, which settings.env lists. A secret is a variable,
# or a file named by that variable with _FILE after it; it is no argument, which everybody on the machine can read.
set -eu
for name in MLFLOW_BACKEND_STORE_URI MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY \
    PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
    fi
done
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///runs/mlflow.db}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-runs/mlartifacts}"
export MLFLOW_HOST="${MLFLOW_HOST:-127.0.0.1}"

if [ -n "${MLFLOW_AUTH_ADMIN_PASSWORD:-}" ]; then
    set -- --app-name basic-auth "$@"
elif [ "$MLFLOW_HOST" != 127.0.0.1 ] && [ "$MLFLOW_HOST" != localhost ]; then
    echo "A server that other machines reach must ask for a password, but MLFLOW_HOST is $MLFLOW_HOST and" \
        "MLFLOW_AUTH_ADMIN_PASSWORD is not set: set it, or leave MLFLOW_HOST out." >&2
    exit 2
fi
exec mlflow server "$@"
