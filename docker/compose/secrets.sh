#!/usr/bin/env bash
# Makes the secrets of docker/compose.yaml, once: a file for each in docker/secrets. What is there is kept, so that a
# deleted file is made anew; passwords that a database knows already must be changed there too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Containers have users of their own: the files may be read by all, the folder is closed to everybody else here.
install --directory --mode=0700 secrets
cd secrets
umask 022

random() { head -c "${1:-24}" /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }
keep() { if [ ! -e "$1" ]; then cat > "$1.new" && mv "$1.new" "$1"; else cat > /dev/null; fi; }
make() { random "${2:-24}" | keep "$1"; }

make postgres_password
make postgres_airflow_password
make postgres_mlflow_password
make airflow_password
make mlflow_password
make airflow_fernet_key 32
make airflow_jwt_secret 32
make airflow_secret_key 32
make mlflow_secret_key 32
for name in llambert reader mlflow admin; do
  make "s3_${name}_key"
  make "s3_${name}_secret"
done

keep airflow_passwords.json <<< "{\"admin\": \"$(cat airflow_password)\"}"
printf 'postgresql+psycopg2://airflow:%s@postgres/airflow' "$(cat postgres_airflow_password)" | keep airflow_database
printf 'postgresql+psycopg2://mlflow:%s@postgres/mlflow' "$(cat postgres_mlflow_password)" | keep mlflow_database
printf 'llambert' | keep mlflow_username
# PostgreSQL runs it once, when its volume is new.
keep databases.sql << END
CREATE ROLE airflow LOGIN PASSWORD '$(cat postgres_airflow_password)';
CREATE ROLE mlflow LOGIN PASSWORD '$(cat postgres_mlflow_password)';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
END
keep mlflow_auth.ini << END
[mlflow]
default_permission = READ
database_uri = $(cat mlflow_database)_auth
admin_username = $(cat mlflow_username)
admin_password = $(cat mlflow_password)
auth_cache_ttl_seconds = 60
END
for name in mlflow admin; do
  keep "s3_$name.ini" << END
[default]
aws_access_key_id = $(cat "s3_${name}_key")
aws_secret_access_key = $(cat "s3_${name}_secret")
END
done

identity() { # NAME ACTION...
  local name=$1 actions
  shift
  actions=$(printf '"%s", ' "$@")
  printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' \
    "$name" "$(cat "s3_${name}_key")" "$(cat "s3_${name}_secret")" "${actions%, }"
}
# The reader sees what Airflow's pages show: reports, and what is needed to read labels.
keep s3_identities.json << END
{"identities": [
  $(identity admin Admin),
  $(identity llambert {Read,Write,List,Tagging}:{landing,warehouse}),
  $(identity reader {Read,List}:warehouse),
  $(identity mlflow {Read,Write,List,Tagging}:mlflow)
]}
END
