# The service and SoftHSM2 for trials; an HSM's own PKCS#11 library is mounted or added in an image
# on top. Like the compose file, this was not run by the project's CI.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends softhsm2 \
    && rm -rf /var/lib/apt/lists/*

# The packages are an application: they run from /app and are never installed into site-packages.
WORKDIR /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml ./
COPY migrations migrations
COPY crypto crypto
COPY hsm hsm
# Without cms/sandbox: .dockerignore keeps that out.
COPY cms cms

# Numbers, not only names: files and volumes of the host belong to them. The sockets that the vault
# makes get the group of their directory, which is set-group-id.
RUN groupadd --gid 10001 vault \
    && groupadd --gid 10002 cms \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vault \
    && useradd --uid 10002 --gid 10002 --no-create-home --shell /usr/sbin/nologin cms \
    && useradd --uid 10003 --gid 10002 --no-create-home --shell /usr/sbin/nologin operator \
    && install -d -o vault -g vault -m 0700 /token /vault \
    && install -d -o vault -g cms -m 2750 /sockets
USER 10002:10002
CMD ["python", "-m", "cms", "serve"]
