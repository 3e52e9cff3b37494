#!/bin/sh
# Makes the passwords of compose.yaml, once: files that only you can read, in secrets/ beside this script.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then
    echo "secrets/ is there already; docker compose up --detach takes it" >&2
    exit 2
fi
umask 077
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
mkdir secrets.new
password=$(random) key=$(random) secret=$(random)
printf '%s' "$password" > secrets.new/postgres_password
printf 'database:5432:mlflow:mlflow:%s\n' "$password" > secrets.new/pgpass
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" > secrets.new/aws_credentials
printf '{"identities": [{"name": "mlflow", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin"]}]}\n' \
    "$key" "$secret" > secrets.new/s3.json
printf 'OWNER=%s:%s\n' "$(id -u)" "$(id -g)" > .env
mv secrets.new secrets
echo "secrets/ and .env are made"
