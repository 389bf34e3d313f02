# The image in which steps run: the package with torch, transformers, mlflow and great-expectations. No Airflow.
# `make images` builds it. In production give BASE by digest: python:3.11-slim-bookworm@sha256:...
# TORCH=cuda takes the build of torch that brings CUDA's own libraries: a node needs NVIDIA's driver and container
# toolkit, and BASE may stay what it is. Any other BASE must have Python 3.11 as `python3`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG TORCH=cpu
ARG PIP_FIND_LINKS
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/build/constraints.txt PIP_BUILD_CONSTRAINT=/build/constraints.txt
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# The environment has no pip of its own. The package is an empty one here, so that this layer, all but a megabyte of the
# image, is built and pulled again only where the pins have changed.
RUN python3 -m venv --without-pip /opt/venv \
    && mkdir llambert_etl && touch README.md \
    && pip --python /opt/venv install -c constraints.txt ".[worker]" \
    && pip --python /opt/venv check \
    && pip --python /opt/venv uninstall --yes llambert-etl
COPY docker/torch_build.py ./
RUN /opt/venv/bin/python torch_build.py "${TORCH}"

FROM dependencies AS package
COPY README.md ./
COPY llambert_etl llambert_etl
RUN pip --python /opt/venv install --no-deps --prefix /opt/package .

FROM ${BASE}
ARG BASE
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llambert-worker" \
      org.opencontainers.image.description="Steps of llambert-etl, with torch and without Airflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin llambert
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv
COPY include /opt/llambert/include
WORKDIR /opt/llambert
# All that a step writes lies below /tmp: the rest may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    HF_HUB_OFFLINE=1 GX_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true \
    LLAMBERT_INCLUDE=/opt/llambert/include LLAMBERT_STATE=/tmp/llambert LLAMBERT_LOG=json
USER 10001:10001
ENTRYPOINT ["llambert"]
