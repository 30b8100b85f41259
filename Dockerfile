# The service and SoftHSM2 for trials; an HSM's own PKCS#11 library is mounted, or added in an image
# on top. BASE is a Debian with Python 3.11 or later as python3, named by its digest:
#
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:… .
ARG BASE
FROM ${BASE} AS build
# Or requirements-tracing.lock: docs/tracing.md.
ARG REQUIREMENTS=requirements.lock
COPY ${REQUIREMENTS} ./
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r "${REQUIREMENTS}"
# The packages are an application: they run from /app and are never installed into site-packages.
WORKDIR /app
COPY pyproject.toml ./
COPY migrations migrations
COPY crypto crypto
COPY hsm hsm
# Without cms/sandbox: .dockerignore keeps that out.
COPY cms cms
# Nothing is written into a container: its root may be read-only.
RUN python3 -m compileall -q /app

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends softhsm2 \
    && rm -rf /var/lib/apt/lists/*

# Numbers, not only names: files and volumes of the host belong to them. The sockets that the vault
# makes, and those of the web for a proxy, get the group of their directory, which is set-group-id.
RUN groupadd --gid 10001 vault \
    && groupadd --gid 10002 cms \
    && groupadd --gid 10004 proxy-sockets \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vault \
    && useradd --uid 10002 --gid 10002 --no-create-home --shell /usr/sbin/nologin cms \
    && useradd --uid 10003 --gid 10002 --no-create-home --shell /usr/sbin/nologin operator \
    && install -d -o vault -g vault -m 0700 /token /vault \
    && install -d -o vault -g cms -m 2750 /sockets \
    && install -d -o cms -g proxy-sockets -m 2750 /web
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# For whoever opens a shell in a container: cms and hsm are commands, and complete.
RUN python -m cms completion bash >> /etc/bash.bashrc \
    && python -m hsm completion bash >> /etc/bash.bashrc
USER 10002:10002
CMD ["python", "-m", "cms", "serve"]
