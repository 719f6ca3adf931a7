"""What a request holds: a photograph, as its body or as one part of a form. Both come from strangers."""

from __future__ import annotations

import dataclasses

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from n2f_jax.data.images import ImageError, TooLargeError, decode_image
from n2f_jax.geometry.focal import FocalHints
from n2f_jax.serving.problems import Problem

_MAX_PARTS = 16
# Clients that name no type, and those whose type says nothing.
_RAW_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")


@dataclasses.dataclass(frozen=True)
class Photograph:
    """An unpacked photograph.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB, upright.
        focal: what the client and EXIF say of its focal length.
    """

    image: np.ndarray
    focal: FocalHints


def file_in_body(content_type: str, body: bytes) -> bytes:
    """The photograph's file: the body itself, or the one file of a form (``multipart/form-data``).

    Args:
        content_type: the header, "" without one. Images and what says nothing are bodies themselves: what a file is,
            its content tells.
        body: of the request.

    Raises:
        Problem: 400, an empty or damaged body, or no or several files; 415, another type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        body = _file_of_form(content_type, body)
    elif kind not in _RAW_TYPES and not kind.startswith("image/"):
        raise Problem(415, f"a photograph is wanted, as the body or in a form, not {kind}")
    if not body:
        raise Problem(400, "the photograph is empty")
    return body


def _file_of_form(content_type: str, body: bytes) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046
        raise Problem(400, "the form's content type names no boundary of 1 to 70 letters")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"the form is damaged: {error}") from error
    if not form.ended:
        raise Problem(400, "the form is cut off")
    if len(form.files) != 1:
        raise Problem(400, f"the form holds {len(form.files)} files; one photograph is wanted")
    return bytes(form.files[0])


class _Form:
    """Files of a form as the parser comes upon them; other fields are passed over."""

    def __init__(self) -> None:
        self.files: list[bytearray] = []
        self.ended = False
        self._parts = 0
        self._name, self._value, self._disposition = b"", b"", b""
        self._current: bytearray | None = None

    def callbacks(self) -> dict:
        """By the names of the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise Problem(400, f"the form has more than {_MAX_PARTS} parts")
        self._disposition, self._current = b"", None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            self._current = bytearray()
            self.files.append(self._current)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._current is not None:
            self._current += data[start:end]

    def _end(self) -> None:
        self.ended = True


def read_photograph(content: bytes, focal: float | None, max_pixels: int) -> Photograph:
    """Unpacks a file: upright by its EXIF data, whose focal length is kept beside the client's.

    Args:
        content: of the file.
        focal: the client's, pixels of the upright photograph.
        max_pixels: of the photograph.

    Raises:
        Problem: 400, it is no image or damaged; 413, it has more pixels.
    """
    try:
        image, info = decode_image(content, "the photograph", max_pixels)
    except TooLargeError as error:
        raise Problem(413, str(error)) from error
    except ImageError as error:
        raise Problem(400, str(error)) from error
    return Photograph(image, FocalHints(focal, info.focal))
