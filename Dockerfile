# n2f in a container, on the CPU:  docker build -t n2f . && docker run --rm -v "$PWD:/data" n2f reconstruct photo.jpg --out heads
FROM python:3.12-slim

# As any user that `docker run --user` names: networks and compiled programs are found here, not in a home folder.
ENV N2F_JAX_CACHE=/opt/n2f/cache \
    PYTHONUNBUFFERED=1
COPY . /opt/n2f/source
# The headless OpenCV is the same module without windows, and needs no libGL.
RUN pip install --no-cache-dir "/opt/n2f/source[face-mesh,heif,track,serve]" \
 && pip uninstall --yes opencv-python \
 && pip install --no-cache-dir "opencv-python-headless>=4.10.0.84,<6" \
 && rm -r /opt/n2f/source \
 && n2f fetch \
 && chmod -R a+rwX /opt/n2f/cache

WORKDIR /data
ENTRYPOINT ["n2f"]
CMD ["--help"]
