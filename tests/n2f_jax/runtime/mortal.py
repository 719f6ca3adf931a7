"""Workers that die or fail. Other processes import this, so it loads next to nothing."""

import os
import signal

from n2f_jax.runtime.output_folder import OutputError


class MortalWorker:
    """Kills its own process at a picture called ``killer…``; says which process did the others."""

    def process(self, tasks):
        for task in tasks:
            if task.key.startswith("killer"):
                os.kill(os.getpid(), signal.SIGKILL)
        return [task.record(status="ok", reason=str(os.getpid())) for task in tasks]


class Stillborn:
    """Cannot be made outside the process that is named."""

    def __init__(self, process):
        if os.getpid() != process:
            os.kill(os.getpid(), signal.SIGKILL)


class FullDisk:
    """Cannot write."""

    def process(self, tasks):
        raise OutputError("cannot write to out: No space left on device")


class Buggy:
    """Fails at what no image is to blame for."""

    def process(self, tasks):
        raise ZeroDivisionError("of our own making")
