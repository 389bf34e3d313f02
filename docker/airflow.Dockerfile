# The image of Airflow's own processes. Scheduler, Dag processor, triggerer and API server parse Dags and need no torch.
# Where tasks run, the light steps run too and need mlflow, Great Expectations and torch: build that image with
# --build-arg EXTRAS=airflow,worker. In production give BASE by digest, as for the worker.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG EXTRAS=airflow
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 AIRFLOW__CORE__LOAD_EXAMPLES=False
WORKDIR /opt/llambert
COPY pyproject.toml constraints.txt README.md ./
COPY llambert_etl llambert_etl
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" && pip check
COPY dags dags
COPY plugins plugins
COPY include include
ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/llambert/dags AIRFLOW__CORE__PLUGINS_FOLDER=/opt/llambert/plugins
# Light steps keep their processes and copies of models in the state folder: of the image, the user may write to its home.
ENV LLAMBERT_INCLUDE=/opt/llambert/include LLAMBERT_STATE=/home/airflow/llambert LLAMBERT_COMPUTE=kubernetes
RUN useradd --uid 10002 --create-home airflow
USER 10002
ENTRYPOINT ["airflow"]
