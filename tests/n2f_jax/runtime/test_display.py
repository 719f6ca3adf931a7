import pytest

from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é b.png", "é b.png"),
        ("\x1b[2Jx", r"\x1b[2Jx"),
        ("a\r\nb\t", r"a\r\nb\t"),
        ("caf\udce9", r"caf\udce9"),
        ("gpj.\u202ex", r"gpj.\u202ex"),  # reverses the direction
        ("\x9b31m", r"\x9b31m"),  # an escape sequence in one letter
    ],
)
def test_only_what_can_be_printed(text, shown):
    assert printable(text) == shown and shown.isprintable()


def test_lines_stay_lines():
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"


def test_errors_of_a_command_are_printed_safely(capsys):
    def run(flags):
        raise FileNotFoundError("no file \x1b]0;x\x07\udcff")

    assert Command("", lambda parser: None, run)([]) == 2
    assert capsys.readouterr().err == "error: no file \\x1b]0;x\\x07\\udcff\n"
    with pytest.raises(SystemExit):
        Command("", lambda parser: None, run)(["--x\x1b"])
    assert "\x1b" not in capsys.readouterr().err
