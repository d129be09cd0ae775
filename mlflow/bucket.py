"""Make the bucket of $MLFLOW_ARTIFACTS_DESTINATION where there is none."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import boto3

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
    if file := os.environ.get(f"{name}_FILE"):
        os.environ[name] = Path(file).read_text().strip()
store = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
bucket = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
if bucket not in {there["Name"] for there in store.list_buckets()["Buckets"]}:
    store.create_bucket(Bucket=bucket)
