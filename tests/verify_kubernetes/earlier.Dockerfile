# The worker image of an earlier commit on the packages of this one's: its code, compiled as pip does, and its tasks.
#   git worktree add --detach EARLIER c5a9b4e
#   podman build --build-arg BASE=WORKER -t NAME -f tests/verify_kubernetes/earlier.Dockerfile EARLIER
ARG BASE
FROM ${BASE}
USER 0
RUN rm -r /opt/venv/lib/python3.11/site-packages/llambert_etl /opt/llambert/include
COPY llambert_etl /opt/venv/lib/python3.11/site-packages/llambert_etl
COPY include /opt/llambert/include
RUN /opt/venv/bin/python -m compileall -q /opt/venv/lib/python3.11/site-packages/llambert_etl
USER 10001:10001
