"""The images of a folder, at any depth: which files are some, and what is passed over.

``n2f reconstruct`` and ``n2f preprocess`` search alike. A folder is entered once, however many links lead to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from n2f_jax.data.images import HEAD_SIZE, IMAGE_SUFFIXES, image_format
from n2f_jax.runtime.display import printable

# Files that are not opened to see whether they are images: what lies beside photographs, and what begins like one but
# is none that can be used: raw files (TIFF), cameras' thumbnails (JPEG), downloads that have not ended.
_OTHERS = """
    .txt .md .rst .log .json .jsonl .csv .tsv .xml .html .htm .yaml .yml .toml .ini .cfg .conf .xmp .aae .pp3
    .py .pyc .ipynb .sh .bat .cc .cpp .hpp .cu .js .css .java .so .dll .exe
    .npz .npy .mat .pkl .pickle .pt .pth .ckpt .safetensors .onnx .tflite .h5 .hdf5 .msgpack .parquet .arrow .tfrecord
    .mdb .lmdb .db .sqlite .idx .rec .pts .lnd .pp .obj .mtl .glb .gltf .ply .stl .off .fbx .blend .dae .usd .usdz .abc
    .pcd .zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .iso .pdf .doc .docx .odt .xls .xlsx .ppt .pptx
    .mp3 .m4a .wav .flac .ogg .mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .flv .3gp .mts .m2ts .insv
    .psd .psb .xcf .kra .ai .eps .ps .svg .exr .hdr .dds .ico .cur .thm .lrv .part .partial .crdownload
    .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl
    .sr2 .srf .srw .x3f
"""
OTHER_SUFFIXES = frozenset(_OTHERS.split())

_KEPT, _NAMED = 100, 5  # of the files that are passed over: names in memory, and on screen


def is_image_file(path: Path) -> bool:
    """Whether a file is taken for an image: by its suffix or, where that is none or one we do not know, by its first
    bytes. What has an image's suffix and is none is taken too, for the run to report it."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES:
        return suffix in IMAGE_SUFFIXES
    try:
        if not path.is_file():  # opening a pipe would wait
            return False
        with path.open("rb", buffering=0) as file:
            return image_format(file.read(HEAD_SIZE)) is not None
    except OSError:
        return False


@dataclasses.dataclass
class SkippedFiles:
    """What a search passed over. Of any number of files the first hundred names of each list are kept.

    Attributes:
        count: of all of them.
        names: of files that are no images.
        problems: of what could not be opened or searched, each with the reason.
    """

    count: int = 0
    names: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, problem: str = "") -> None:
        """One more; ``problem`` where it is not simply that the file is no image."""
        name = printable(name)
        self.count += 1
        names = self.problems if problem else self.names
        if len(names) < _KEPT:
            names.append(f"{name} ({problem})" if problem else name)

    def text(self) -> str:
        """One line for people, problems first; "" where nothing was passed over."""
        if not self.count:
            return ""
        named = [*self.problems, *self.names][:_NAMED]
        more = f" and {self.count - len(named)} more" if self.count > len(named) else ""
        return f"skipped {self.count} file{'s' * (self.count > 1)}: {', '.join(named)}{more}"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search came upon.

    Attributes:
        within: the names from the searched folder down to it.
        path: the file, or a folder that could not be searched.
        problem: why it cannot be opened or searched, or "".
        is_folder: the problem is a folder's.
    """

    within: tuple[str, ...]
    path: Path
    problem: str = ""
    is_folder: bool = False


def walk_files(
    root: Path,
    *,
    exclude: Path | None = None,
    seen: set[Hashable] | None = None,
    inside: Callable[[Path], str | None] = lambda folder: None,
    stage: Callable[[tuple[str, ...]], Hashable | None] = lambda within: (),
) -> Iterator[Found]:
    """All files under a folder but hidden ones, in the order that the file system lists them.

    Links are followed, and each folder is searched once: by its own path if that lies under ``root``, else by the
    first of the links to it, in order of their names. So files are called the same however the file system orders its
    listings, and links in a circle end. A broken link is a file like others; opening it tells.

    Args:
        root: the folder.
        exclude: a folder to leave out, with all that is in it: the output. It need not exist.
        seen: what earlier searches have been in, which is left out and added to.
        inside: the only name to go on with in a folder, as in one of which the rest was made; None for all.
        stage: a folder's, by the names down to it: it is searched once at each stage; None: not at all.
    """
    walk = _Walk(_identity(exclude), set() if seen is None else seen, inside, stage)
    links: list[tuple[tuple[str, ...], Path]] = [((), root)]
    while links:
        walk.links = []
        for within, folder in links:
            yield from walk.search(within, folder)
        links = sorted(walk.links)


class _Walk:
    """One search: what ``walk_files`` was given, the folders it has been in, and the links to follow next."""

    def __init__(
        self,
        excluded: tuple[int, int] | None,
        seen: set[Hashable],
        inside: Callable[[Path], str | None],
        stage: Callable[[tuple[str, ...]], Hashable | None],
    ):
        self.excluded, self.seen, self.inside, self.stage = excluded, seen, inside, stage
        self.links: list[tuple[tuple[str, ...], Path]] = []

    def search(self, within: tuple[str, ...], folder: Path) -> Iterator[Found]:
        """The files under one folder, without what lies behind links to folders, which are kept for later."""
        stage = self.stage(within)
        try:
            stat = folder.stat()
            identity = (stat.st_dev, stat.st_ino)
            if stage is None or identity == self.excluded or (*identity, stage) in self.seen:
                return
            self.seen.add((*identity, stage))
            only = self.inside(folder)
            listing = os.scandir(folder) if only is None else contextlib.nullcontext(())
        except OSError as error:
            problem = f"this folder cannot be listed: {error.strerror or error}"
            yield Found(within, folder, problem, is_folder=True)
            return
        if only is not None:
            yield from self.search((*within, only), folder / only)
        with listing as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                names, path = (*within, entry.name), folder / entry.name
                try:
                    is_folder = entry.is_dir()
                    is_file = is_folder or entry.is_file() or _is_broken(path)
                except OSError as error:  # links in a circle, or into a folder that is closed to us
                    yield Found(names, path, f"this link cannot be followed: {error.strerror or error}")
                    continue
                if not is_file:
                    yield Found(names, path, "neither a file nor a folder")  # a pipe, say, which would hang
                elif not is_folder:
                    yield Found(names, path)
                elif entry.is_symlink():
                    self.links.append((names, path))
                else:
                    yield from self.search(names, path)


def _identity(folder: Path | None) -> tuple[int, int] | None:
    try:
        stat = folder.stat() if folder is not None else None
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino) if stat is not None else None


def _is_broken(link: Path) -> bool:
    try:
        link.stat()
    except FileNotFoundError:
        return True
    return False
