"""Compiled programs kept on disk between runs, so that a command compiles once and not every time."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import sys
from pathlib import Path

from n2f_jax.runtime.assets_cache import VARIABLE, AssetError, cache_dir
from n2f_jax.runtime.display import printable


def enable() -> Path | None:
    """Turns JAX's persistent compilation cache on, before the first compilation; scripts call this.

    The folder is ``compiled`` in ``cache_dir()`` with a part for each kind of processor, since code for one may not run
    on another. ``JAX_COMPILATION_CACHE_DIR`` names another folder and ``JAX_ENABLE_COMPILATION_CACHE=false`` turns it
    off, as everywhere in JAX.

    Returns:
        The folder, or None if the cache is off or the folder cannot be written; a line on stderr says the latter.
    """
    import jax

    if not jax.config.jax_enable_compilation_cache:
        return None
    chosen = jax.config.jax_compilation_cache_dir or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if chosen:
        return Path(chosen)
    try:
        folder = cache_dir() / "compiled" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except (OSError, AssetError) as error:
        where = "" if isinstance(error, AssetError) else f"; {VARIABLE} names another folder"
        line = f"compiled programs are not kept for the next run: {error}{where}"
        print(printable(line), file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _processor() -> str:
    """Short name of this kind of processor: what its instruction set hashes to."""
    described = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        described += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass  # not Linux
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
