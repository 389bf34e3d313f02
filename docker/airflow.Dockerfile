# The image of Airflow's own processes, built by `make images`. Scheduler, Dag processor, triggerer and API server parse
# Dags and need no torch. Where tasks run, the light steps run too and need mlflow, Great Expectations and torch: that
# image is built with EXTRAS=airflow,logins,worker,registry, and can serve MLflow as well. In production give BASE by digest.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG EXTRAS=airflow,logins
ARG PIP_FIND_LINKS
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/build/constraints.txt PIP_BUILD_CONSTRAINT=/build/constraints.txt
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# As for the worker: an environment without pip, and an empty package, so that this layer depends on the pins only.
RUN python3 -m venv --without-pip /opt/venv \
    && mkdir llambert_etl && touch README.md \
    && pip --python /opt/venv install -c constraints.txt ".[${EXTRAS}]" dumb-init \
    && pip --python /opt/venv check \
    && pip --python /opt/venv uninstall --yes llambert-etl

FROM dependencies AS package
COPY README.md ./
COPY llambert_etl llambert_etl
RUN pip --python /opt/venv install --no-deps --prefix /opt/package .

FROM ${BASE}
ARG BASE
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llambert-airflow" \
      org.opencontainers.image.description="Airflow with the Dags and pages of llambert-etl" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# Airflow and the light steps write to the user's home alone, and to /tmp. Volumes take the owner of the folders here.
RUN useradd --uid 10002 --user-group --create-home airflow \
    && install --directory --owner=airflow --group=airflow /home/airflow/logs /home/airflow/llambert
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv
COPY dags /opt/llambert/dags
COPY plugins /opt/llambert/plugins
COPY include /opt/llambert/include
WORKDIR /opt/llambert
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/home/airflow \
    AIRFLOW_HOME=/home/airflow AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/llambert/dags AIRFLOW__CORE__PLUGINS_FOLDER=/opt/llambert/plugins \
    GX_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true \
    LLAMBERT_INCLUDE=/opt/llambert/include LLAMBERT_STATE=/home/airflow/llambert LLAMBERT_COMPUTE=kubernetes
USER 10002:10002
# Steps outlive a task process that is killed: the first process of the container must take up their ends. Airflow's
# Helm chart and executors name whole commands, so nothing more stands here.
ENTRYPOINT ["dumb-init", "--"]
CMD ["airflow", "version"]
