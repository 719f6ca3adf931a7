"""Archives that tests write."""

import io
import zipfile
from collections.abc import Mapping


def zipped(entries: Mapping[str, bytes]) -> bytes:
    """A compressed zip archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()
