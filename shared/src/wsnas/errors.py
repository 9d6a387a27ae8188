"""Errors reported to the user: one sentence, exit code 2, nothing lost."""


class WsnasError(Exception):
    """An error whose message says in one sentence what is wrong, where, and what to do.

    The command line prints the message and exits with code 2; results already written are kept.
    """


class Diverged(WsnasError):
    """Training produced a loss that is not finite."""


class WorkerLost(WsnasError):
    """A job's worker died on every attempt."""


class Busy(WsnasError):
    """Another process writes to the run."""
