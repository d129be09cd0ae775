#!/bin/sh
# Draw the secrets of compose.yaml into mlflow/secrets/, where there are none yet.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
draw() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
for name in database_password store_key store_secret admin_password server_key; do
    [ -s "secrets/$name" ] || draw > "secrets/$name"
done
cat > secrets/store.json <<END
{"identities": [{"name": "mlflow", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$(cat secrets/store_key)", "secretKey": "$(cat secrets/store_secret)"}]}]}
END
chmod 644 secrets/*  # containers read them as users of their own; the folder keeps others out
