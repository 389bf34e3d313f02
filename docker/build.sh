#!/usr/bin/env bash
# Builds the images with docker, podman or buildah, whichever is there: IMAGES, or the three that a deployment has.
# Each is named PREFIX-<image>:TAG; BASE, TORCH, PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL go to the Dockerfiles.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prefix=${PREFIX:-localhost/llambert}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)

if docker info &> /dev/null; then
  build=(docker build)
elif command -v podman > /dev/null; then
  build=(podman build --layers)
elif command -v buildah > /dev/null; then
  build=(buildah bud --layers)
else
  echo "no docker, podman or buildah is there: install one of them" >&2
  exit 1
fi

arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision")
for name in BASE TORCH PIP_EXTRA_INDEX_URL PIP_FIND_LINKS; do
  if [ -n "${!name:-}" ]; then arguments+=(--build-arg "$name=${!name}"); fi
done
if [ -d "${PIP_FIND_LINKS:-}" ]; then
  if [ "${build[0]}" = docker ]; then
    echo "docker build does not see the folder $PIP_FIND_LINKS: set PIP_EXTRA_INDEX_URL in its place" >&2
    exit 1
  fi
  arguments+=(--volume "$PIP_FIND_LINKS:$PIP_FIND_LINKS:ro")
fi

for image in ${IMAGES:-worker airflow airflow-worker}; do
  case $image in
    worker | airflow) own=() ;;
    # Where tasks run, the light steps run too; it can serve MLflow as well.
    airflow-worker) own=(--build-arg EXTRAS=airflow,logins,worker,registry) ;;
    *) echo "IMAGES: no image $image; there are worker, airflow and airflow-worker" >&2; exit 1 ;;
  esac
  dockerfile=docker/$image.Dockerfile
  if [ "$image" = airflow-worker ]; then dockerfile=docker/airflow.Dockerfile; fi
  "${build[@]}" "${arguments[@]}" "${own[@]}" -t "$prefix-$image:${TAG:-$version}" -f "$dockerfile" .
done
