#!/bin/sh
# Starts MLflow's service on this machine, from a copy in the home folder: passwords do not belong on a shared disk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
place=$HOME/segsweep-mlflow
mkdir -p "$place"
cp "$here"/compose.yaml "$here"/Dockerfile "$here"/requirements.txt "$here"/make_bucket.py "$here"/secrets.sh "$place"
cd "$place"
[ -e secrets ] || sh secrets.sh
docker compose up --detach --wait
