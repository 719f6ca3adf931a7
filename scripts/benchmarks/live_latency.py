"""How long after a frame its packet arrives, and what each part of a live frame takes.

    python scripts/build/make_face_clips.py --model ICT-FaceKit/FaceXModel --out face_clips --people 2 --frames 80
    python scripts/benchmarks/live_latency.py --frames face_clips/choosing/person001 --out results [--seconds 60]
    python scripts/benchmarks/live_latency.py --frames face_clips/choosing/person001 --parts

The rendered frames are laid on 1280 × 720 at 30 a second, to and fro, and `n2f live --fake-camera` plays them in real
time in a process of its own. Every packet holds the moment at which its frame was there; it is read here, over
loopback, and its arrival is timed by the same machine's clock. The first five seconds do not count: the identity
settles. --weights, --vmc, --page as a user would have them; --page looks at the page meanwhile.

--parts times the parts of a frame in this process, and OnlineTracker's frames beside LiveTracker's. On a machine that
does something else as well, the tenth percentile is nearest to what a quiet one takes.
"""

import argparse
import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

RATE = 30
SETTLING = 5.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--frames", type=Path, required=True, metavar="DIR", help="of a rendered clip")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="N", help="default: %(default)s")
    parser.add_argument("--weights", choices=("scores", "fit"), default="scores")
    parser.add_argument("--vmc", action="store_true", help="send the VMC protocol's messages too")
    parser.add_argument("--page", action="store_true", help="look at the page meanwhile")
    parser.add_argument("--parts", action="store_true", help="time the parts instead")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where live_latency.json goes")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip720.mp4"
        try:
            write_clip(flags.frames, clip)
            result = parts(clip) if flags.parts else latency(clip, flags)
        except (OSError, ValueError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(json.dumps(result, indent=1))
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        name = "live_parts.json" if flags.parts else "live_latency.json"
        (flags.out / name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def write_clip(folder: Path, path: Path) -> None:
    """Frames as 1280 × 720, on their own blurred edges; to and fro, so that it can go on and on."""
    import av
    import cv2
    import numpy as np

    images = [cv2.imread(str(file)) for file in sorted(folder.glob("*.png"))]
    if not images:
        raise ValueError(f"{folder} holds no frames: scripts/build/make_face_clips.py draws them")
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.options = {"crf": "16", "preset": "ultrafast"}
        for number, image in enumerate([*images, *images[-2:0:-1]]):
            picture = cv2.GaussianBlur(cv2.resize(image, (1280, 720)), (0, 0), 25)
            picture[:, 280:1000] = cv2.resize(image, (720, 720), interpolation=cv2.INTER_CUBIC)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            frame.pts = number
            video.mux(stream.encode(frame))
        video.mux(stream.encode())


def latency(clip: Path, flags: argparse.Namespace) -> dict:
    """Milliseconds from frame to packet, of a run of the command."""
    import numpy as np

    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(1.0)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        page = free.getsockname()[1]
    command = [sys.executable, "-m", "n2f_jax.cli.main", "live", "--fake-camera", str(clip), "--repeat"]
    command += ["--live-link", f"127.0.0.1:{listener.getsockname()[1]}", "--weights", flags.weights]
    command += ["--vmc", f"127.0.0.1:{other.getsockname()[1]}"] if flags.vmc else []
    command += ["--page-port", str(page)] if flags.page else ["--no-page"]
    arrivals, sizes = [], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            begin = None
            while begin is None or time.monotonic() - begin < flags.seconds + SETTLING:
                try:
                    packet = listener.recv(2048)
                except TimeoutError:
                    if process.poll() is not None:
                        raise RuntimeError("n2f live has ended; its last words are above") from None
                    continue
                now = time.time()
                if begin is None:
                    begin = time.monotonic()
                    if flags.page:
                        threading.Thread(target=look, args=(page,), daemon=True).start()
                arrivals.append((time.monotonic() - begin, day_seconds(now), moment(packet)))
                sizes = len(packet)
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[0]
    rows = np.array([row for row in arrivals if row[0] >= SETTLING])
    late = 1e3 * ((rows[:, 1] - rows[:, 2] + 43200.0) % 86400.0 - 43200.0)
    span = rows[-1, 0] - rows[0, 0]
    return {
        "frame_to_packet_ms": {
            f"p{p}": round(float(np.percentile(late, p)), 1) for p in (5, 25, 50, 75, 95, 99, 100)
        },
        "packets": len(rows),
        "packets_per_second": round(len(rows) / span, 1),
        "share_of_the_cameras_frames": round(len(rows) / (span * RATE), 3),
        "bytes": sizes,
        "weights": flags.weights,
        "exit_code": process.returncode,
        "said": said.strip(),
        "load_average": load(),
    }


def look(port: int) -> None:
    """Reads the page's pictures until they end."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/stream.mjpg") as stream,
    ):
        while stream.read(65536):
            pass


def moment(packet: bytes) -> float:
    """Seconds since midnight in a packet of Live Link Face."""
    place = 1
    for _ in range(2):
        (length,) = struct.unpack_from(">i", packet, place)
        place += 4 + length
    frame, fraction, rate, divisor = struct.unpack_from(">ifii", packet, place)
    return (frame + fraction) * divisor / rate


def day_seconds(now: float) -> float:
    """Since midnight, local time."""
    local = time.localtime(now)
    return 3600 * local.tm_hour + 60 * local.tm_min + local.tm_sec + now % 1.0


def load() -> list[float]:
    import os

    return [round(x, 1) for x in os.getloadavg()]


def parts(clip: Path) -> dict:
    """Milliseconds of a frame's parts, tenth percentile and median, and processor time of whole frames."""
    from n2f_jax.runtime.threads import use_one_thread

    use_one_thread()
    import jax
    import numpy as np

    import flame_jax
    from n2f_jax.fitting.arkit import ArkitUnits
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.live.camera import Shot
    from n2f_jax.live.run import LiveOptions, Sender, WeightSource
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.tracking.clips import open_clip
    from n2f_jax.tracking.first_pass import gather
    from n2f_jax.tracking.live import LiveTracker
    from n2f_jax.tracking.live_program import live_frame
    from n2f_jax.tracking.online import OnlineTracker

    compilation_cache.enable()
    options = FrontendOptions(max_faces=1, landmarks="v2", turns=False)
    reconstructor = Reconstructor.from_pretrained(
        frontend="face_mesh", frontend_options=options, refine=0, batch_size=1
    )
    opened = open_clip(clip)
    frames = list(opened.frames())
    figures: dict = {}

    def timed(name, call, times=60):
        call()
        took = []
        for _ in range(times):
            begin = time.perf_counter()
            call()
            took.append(1e3 * (time.perf_counter() - begin))
        figures[name] = [round(float(np.percentile(took, p)), 2) for p in (10, 50)]

    def whole(name, tracker):
        took, settled = [], len(frames)
        for number in range(3 * len(frames)):
            frame = frames[number % len(frames)]
            if number == settled:
                processor = time.process_time()
            begin = time.perf_counter()
            tracker.push(frame.image, number / RATE)
            if number >= settled:
                took.append(1e3 * (time.perf_counter() - begin))
        processor = 1e3 * (time.process_time() - processor) / len(took)
        figures[name] = [round(float(np.percentile(took, p)), 2) for p in (10, 50)]
        figures[f"{name}, processor time"] = round(processor, 2)
        return tracker

    online = whole("frame, OnlineTracker", OnlineTracker(reconstructor, opened.size, delay=0))
    live = LiveTracker(reconstructor, opened.size)
    live.prepare()
    whole("frame, LiveTracker", live)
    image, face = frames[0].image, live.face
    landmarker = live._landmarker
    timed("search: detector, looks, check", lambda: landmarker(image), 15)
    timed("follow: both networks, mirrored, check", lambda: landmarker.follow(image, face.points_478, 1.0))
    timed("glance: one look", lambda: landmarker.glance(image, face))
    timed("glance with check", lambda: landmarker.glance(image, face, check=True))
    timed("of these, eyes", lambda: landmarker._eyes(image, face.points_478, face.blendshapes))
    found = reconstructor.frontend.face_maps(face)
    looks = live._looks
    timed("maps drawn", lambda: reconstructor.frontend.face_maps(face))
    timed("network, in steps", lambda: gather(reconstructor, [(0, found, looks)], opened.size, live.focal))
    faces = gather(reconstructor, [(0, found, looks)], opened.size, live.focal)
    timed("fit of 5 steps", lambda: online._fitter(faces))
    seen, before = live._input(face), live._before
    of_person = live._stage, live._fitter.person, live._slope, live._shape32
    timed(
        "maps, network, fit of 2 steps, eyes: one program",
        lambda: jax.block_until_ready(live_frame(*of_person, seen, before, steps=2)),
    )
    timed("filter over 16 frames", lambda: live._state(0))
    state = live._state(0)
    source = WeightSource(ArkitUnits.of_open_head(flame_jax.load_open_head()), "fit")
    timed("ARKit's weights of the fit", lambda: source(state, live.scores))
    weights = source(state, live.scores)
    for name, sent in (
        ("Live Link Face", LiveOptions(("127.0.0.1", 9))),
        ("VMC", LiveOptions(None, ("127.0.0.1", 9))),
    ):
        sender = Sender(sent)
        timed(
            f"packets, {name}",
            lambda sender=sender: sender.face(Shot(image, time.monotonic(), 0), state, weights),
        )
        sender.close()
    live.close()
    return {"milliseconds, tenth percentile and median": figures, "load_average": load()}


if __name__ == "__main__":
    sys.exit(main())
