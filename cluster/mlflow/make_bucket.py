"""Makes the bucket that MLflow's server keeps artefacts in, unless it is there; boto3 finds address and keys itself."""

import sys

import boto3
from botocore.exceptions import ClientError

bucket = sys.argv[1]
client = boto3.client("s3")
try:
    client.head_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
        raise
    client.create_bucket(Bucket=bucket)
print(f"bucket {bucket} is there")
