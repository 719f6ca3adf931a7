"""Prints the account of a long run."""

from tests.fuzz.limits import ACCOUNTS, EXAMPLES


def pytest_terminal_summary(terminalreporter):
    if not EXAMPLES:
        return
    terminalreporter.section("fuzzing")
    terminalreporter.write_line("| reader | files | read | refused | longest, s of CPU | most memory, MB |")
    terminalreporter.write_line("|---|---|---|---|---|---|")
    for name, one in ACCOUNTS.items():
        counts = f"{one.read + one.refused} | {one.read} | {one.refused}"
        terminalreporter.write_line(f"| {name} | {counts} | {one.seconds:.2f} | {one.megabytes:.0f} |")
