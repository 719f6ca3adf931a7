"""A worker that dies. Other processes import this."""

import os
import signal

from n2f_jax.evaluation import run

FIRST = "subject000/multiview_neutral/IMG_0000"


class MortalMeasurer:
    """Its first scan kills the process that reads it."""

    def process(self, items):
        if any(task.sample.name == FIRST for _, task in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return [(index, run.work(task)) for index, task in items]
