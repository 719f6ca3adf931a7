"""How much reading one file may make, all its parts together."""

from __future__ import annotations

# Zeros compress a thousandfold and a pickle may say "the same again", so the file's own size is no bound. What a model
# rightly makes beyond it (a sparse regressor laid out, arrays of zeros) is far below this.
BASE_BYTES = 1 << 28
TIMES_FILE = 4
# A FLAME model has some thousand opcodes; its arrays are single ones. So many take two seconds.
MAX_OPCODES = 200_000


class OverBudgetError(ValueError):
    """A file would make more than any model file holds."""


class Budget:
    """An account of bytes and of pickle opcodes: 256 MiB and four times the file's size, and 200,000.

    Attributes:
        bytes_left, opcodes_left: what may still be made.
    """

    def __init__(self, file_bytes: int, base_bytes: int = BASE_BYTES) -> None:
        self.bytes_left = base_bytes + TIMES_FILE * file_bytes
        self.opcodes_left = MAX_OPCODES

    def take(self, amount: int) -> None:
        """Counts ``amount`` bytes, before they are made.

        Raises:
            OverBudgetError: no such amount is left.
        """
        self.bytes_left -= amount + 64  # an object has a head
        if self.bytes_left < 0:
            raise OverBudgetError("makes more than any model file holds")

    def take_opcode(self) -> None:
        """Counts an opcode of a pickle; pickles within pickles have one account.

        Raises:
            OverBudgetError: there were too many.
        """
        self.opcodes_left -= 1
        if self.opcodes_left < 0:
            raise OverBudgetError(f"has more than {MAX_OPCODES} opcodes; model files have thousands")
