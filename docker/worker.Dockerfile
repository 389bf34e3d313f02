# The image in which steps run: the package with torch, transformers, mlflow and great-expectations. No Airflow.
# In production give BASE by digest: docker build --build-arg BASE=python:3.11-slim@sha256:... -f docker/worker.Dockerfile .
ARG BASE=python:3.11-slim
FROM ${BASE}
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 GX_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /opt/llambert
COPY pyproject.toml constraints.txt README.md ./
COPY llambert_etl llambert_etl
RUN pip install --no-cache-dir -c constraints.txt '.[worker]' && pip check
COPY include include
ENV LLAMBERT_INCLUDE=/opt/llambert/include LLAMBERT_STATE=/tmp/llambert LLAMBERT_LOG=json
RUN useradd --uid 10001 --no-create-home llambert
USER 10001
ENTRYPOINT ["llambert"]
