# One image for the command, the workers and the MLflow server. Its last layer is small: what
# tuner depends on lies in a layer of its own, which changes with the lock alone.
ARG PYTHON=3.12-slim-bookworm

FROM docker.io/library/python:${PYTHON} AS dependencies
RUN python -m venv /opt/tuner
# LOCK=cuda brings CUDA's libraries, in the versions that the locked TensorFlow asks for.
ARG LOCK=server
COPY requirements-${LOCK}.lock /requirements.lock
RUN /opt/tuner/bin/pip install --no-cache-dir --require-hashes -r /requirements.lock

FROM dependencies AS wheel
COPY pyproject.toml README.md LICENSE /src/
COPY tuner /src/tuner
RUN /opt/tuner/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels /src

FROM docker.io/library/python:${PYTHON}
# The user's home is the volume of state: with a read-only root there is no other place for caches.
RUN useradd --uid 1000 --no-create-home --home-dir /var/lib/tuner --shell /usr/sbin/nologin tuner \
    && install -d -m 700 -o tuner -g tuner /var/lib/tuner /var/lib/mlflow \
    && install -d -o tuner -g tuner /code
COPY --from=dependencies /opt/tuner /opt/tuner
COPY --from=wheel /wheels /wheels
RUN /opt/tuner/bin/pip install --no-cache-dir --no-deps /wheels/*.whl
USER tuner
# Modules that studies name are looked for in both: mount your code, or install it FROM this image.
WORKDIR /code
ENV PATH=/opt/tuner/bin:$PATH PYTHONPATH=/code/studies TUNER_HOME=/var/lib/tuner PYTHONUNBUFFERED=1
ENTRYPOINT ["tuner"]
CMD ["worker"]
