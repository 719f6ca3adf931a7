"""Workers that die. Other processes import this, so it loads next to nothing."""

import os
import signal


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
