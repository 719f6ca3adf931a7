"""A subcommand: parses its flags, runs, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Callable, Sequence

from n2f_jax.runtime.display import printable, printable_lines
from n2f_jax.runtime.output_folder import EXIT_INTERRUPTED, EXIT_NOTHING
from n2f_jax.runtime.signals import stop_on_sigterm


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand of ``n2f``, and what the script of the same name calls.

    Attributes:
        description: for ``--help``.
        add_arguments: adds the flags to a parser.
        run: takes the parsed flags, returns the exit code. Heavy imports belong in here, so that ``--help`` is quick.
    """

    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def __call__(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Runs with these arguments (``sys.argv[1:]`` if None) and returns the exit code.

        Flags are spelt with hyphens; underscores are taken too. Errors of ours and of files are one line on stderr and
        exit code 2; anything else is a bug and keeps its traceback. SIGTERM is Ctrl-C.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter ends no run
        parser = argparse.ArgumentParser(
            prog=prog,
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_arguments(parser)
        arguments = sys.argv[1:] if arguments is None else arguments
        flags, rest = parser.parse_known_args([_hyphenated(argument) for argument in arguments])
        flags.overrides = rest
        if rest and not hasattr(flags, "config"):
            parser.error(f"unrecognized arguments: {printable(' '.join(rest))}")
        try:
            with stop_on_sigterm():
                return self.run(flags)
        except KeyboardInterrupt:
            print("interrupted; the same command resumes", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            if not _is_the_users(error):
                raise
            print(f"error: {printable_lines(error)}", file=sys.stderr)
            return EXIT_NOTHING


def _hyphenated(argument: str) -> str:
    """``--head_model=x`` as ``--head-model=x``; fields of a config keep their names."""
    if not argument.startswith("--") or argument.startswith("--config."):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _is_the_users(error: Exception) -> bool:
    """Whether the message is meant for the user: wrong values, files, missing packages, and this project's errors."""
    own = type(error).__module__.partition(".")[0] in ("n2f_jax", "flame_jax")
    return own or isinstance(error, (ValueError, OSError, ImportError))


def shard_of(text: str) -> tuple[int, int]:
    """``I/N`` as (index, count).

    Raises:
        ValueError: not such a text.
    """
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text}: I/N with I from 0 to N − 1 is meant, as 0/4 … 3/4")
    return int(index), int(count)
