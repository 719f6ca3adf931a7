"""What a reader may take for one small file, and the account of what it took."""

import contextlib
import dataclasses
import os
import resource
import time
from pathlib import Path

from hypothesis import HealthCheck, settings

# Short in the fast tests, and then the same each time; `make fuzz` sets the number.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
MAX_SECONDS, MAX_BYTES = 10, 700 << 20  # of CPU; of memory, beyond what was there before
_ROOM = 8 << 30  # of address space: so much no reader gets, whatever it asks for

fuzzed = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@dataclasses.dataclass
class Account:
    """Of one target: how many files were read and refused, the longest time and the most memory."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0


ACCOUNTS: dict[str, Account] = {}


def _status(key):
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) << 10


def _memory(start=None):
    """Bytes in memory now; with a start, how many more there were at most since then. 0 where no one tells."""
    try:
        if start is not None:
            return max(0, _status("VmHWM") - start)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        return _status("VmRSS")
    except OSError:
        return 0


@contextlib.contextmanager
def room():
    """Limits the address space, so that a reader that asks for all memory fails instead of the machine."""
    try:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _ROOM, limits[1]))
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def check(target, reader, error):
    """Calls ``reader``: it succeeds, or raises ``error`` with one line, within time and memory.

    Args:
        target: the name in the account.
        reader: a function of no arguments.
        error: the reader's own class of errors.
    """
    account = ACCOUNTS.setdefault(target, Account())
    memory, start = _memory(), time.process_time()
    try:
        with room():
            reader()
        account.read += 1
    except error as raised:
        message = str(raised)
        assert message and "\n" not in message and len(message) < 1000, message[:2000]
        account.refused += 1
    account.seconds = max(account.seconds, time.process_time() - start)
    account.megabytes = max(account.megabytes, _memory(memory) / 2**20)
    assert account.seconds < MAX_SECONDS and account.megabytes < MAX_BYTES / 2**20, account
