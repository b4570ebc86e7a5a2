# The server and the worker of a GitHub App that you host yourself; docs/docker.md says how to run them.
# The tags are exact versions. To pin them by content as well, put `@sha256:...` of your registry's copy behind both.
FROM python:3.13.14-slim-bookworm AS build
WORKDIR /opt/devflow
COPY requirements/runtime.txt requirements/runtime.txt
RUN python -m venv venv
RUN venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements/runtime.txt
COPY engine engine
COPY app app
RUN venv/bin/python -m compileall -q engine app
RUN mkdir bin && printf '#!/bin/sh\nexec /opt/devflow/venv/bin/python -P -m app.cli "$@"\n' > bin/devflow && chmod 755 bin/devflow

FROM python:3.13.14-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/devflow --shell /usr/sbin/nologin devflow
COPY --from=build /opt/devflow /opt/devflow
ENV PATH=/opt/devflow/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONPATH=/opt/devflow
ENV PYTHONUNBUFFERED=1
ENV DEVFLOW_DATA_DIR=/var/lib/devflow
USER 10001
WORKDIR /var/lib/devflow
VOLUME /var/lib/devflow
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/devflow/venv/bin/python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["devflow"]
CMD ["serve", "--host", "0.0.0.0"]
