"""Files that a user brings for a front end: found, named in errors, recorded by checksum."""

from __future__ import annotations

from pathlib import Path

from n2f_jax.runtime.fingerprints import sha256_file

GUIDE = "third_party/README.md"


class FrontendFileError(ValueError):
    """A file that a front end needs is missing, or is not what it should be; the message says what to do."""


def require_file(path: str | Path | None, what: str, flag: str, where: str) -> Path:
    """The file's path, if it is there.

    Args:
        path: as the user gave it; None if not at all.
        what: what it is, for the message.
        flag: which flag takes it.
        where: where to get it.

    Raises:
        FrontendFileError: not given, missing, a folder or empty.
    """
    remedy = f"{where} (steps in {GUIDE}), then {flag}=FILE"
    if path is None:
        raise FrontendFileError(f"{what} is needed: {remedy}")
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "missing"
        raise FrontendFileError(f"{what} is {kind} at {path}: {remedy}")
    if path.stat().st_size == 0:
        raise FrontendFileError(f"{what} at {path} is empty: {remedy}")
    if path.stat().st_size < 1 << 20:
        with path.open("rb") as stream:
            start = stream.read(256).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            raise FrontendFileError(f"{what} at {path} is a web page saved under this name: {remedy}")
        if start.startswith(b"version https://git-lfs"):
            raise FrontendFileError(f"{what} at {path} is a Git LFS pointer, not the file: {remedy}")
    return path


def record(files: dict[str, Path]) -> dict[str, str]:
    """Role → file becomes role → SHA-256, for ``Provenance.files``."""
    return {role: sha256_file(path) for role, path in files.items()}
