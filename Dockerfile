# The serving image: the request path, the model repository and nothing else; no torch, no compiler, no pip.
#
#     docker build -t adatape-serve .                       the CPU image
#     docker build -t adatape-serve:gpu --target gpu .      the same server with onnxruntime for NVIDIA GPUs
#
# The base is pinned by its full version; pin it by digest too, to one that your registry keeps:
#
#     docker build --build-arg BASE=python:3.11.14-slim-bookworm@sha256:... .
#
# It runs as a numeric user without rights and writes nothing: start it with --read-only --cap-drop ALL.

ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE} AS base

# --- What is installed, by device; the two builds of onnxruntime share a folder and never meet ----

FROM base AS packages-cpu
COPY requirements/server.txt /requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /requirements.txt \
    && /opt/venv/bin/pip uninstall --yes pip setuptools

FROM base AS packages-gpu
COPY requirements/gpu.txt /requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /requirements.txt \
    && /opt/venv/bin/pip uninstall --yes pip setuptools

# --- Our code, compiled here because the server may write nothing ---------------------------------

FROM base AS code
COPY server /srv/server
RUN python -m compileall -q --invalidation-mode unchecked-hash /srv/server

# --- What both images say of themselves -----------------------------------------------------------

FROM base AS runtime
LABEL org.opencontainers.image.title="adatape-serve" \
      org.opencontainers.image.description="Inference server with adaptive compute budgets for AdaTape image classifiers" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ADATAPE_HOST=0.0.0.0
WORKDIR /srv
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('ADATAPE_PORT', '8000') + '/healthz', timeout=2)"]
ENTRYPOINT ["python", "-m", "server"]

# What changes least lies lowest: a new build of the code is one small layer.

FROM runtime AS gpu
ENV ADATAPE_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/venv /opt/venv
COPY model_repository model_repository
COPY --from=code /srv/server server
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=$REVISION

FROM runtime AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
COPY model_repository model_repository
COPY --from=code /srv/server server
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=$REVISION
