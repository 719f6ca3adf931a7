"""Text that is safe to print: names of files may hold anything but a slash, also what a terminal obeys."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""One line: what cannot be printed (escape sequences, line ends, bytes that are no UTF-8, marks that reverse the
    direction) becomes a backslash escape, as ``\x1b``."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def printable_lines(text: object) -> str:
    """The same for a text of several lines, whose line ends stay."""
    return "\n".join(map(printable, str(text).split("\n")))


def echo(text: object) -> None:
    """Prints a text of one or more lines."""
    print(printable_lines(text))
