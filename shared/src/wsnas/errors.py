"""What the tool says when it cannot go on: one sentence, exit code 2, nothing lost."""


class WsnasError(Exception):
    """A problem its message explains in one sentence: what, where, and what to do.

    The command line prints the message and exits with code 2; results that were already
    written stay as they are.
    """


class Diverged(WsnasError):
    """Training produced a loss that is not finite."""


class WorkerLost(WsnasError):
    """A job's worker died every time it was tried."""
