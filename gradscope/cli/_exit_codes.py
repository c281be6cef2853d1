"""What the command line returns. An error raised on purpose carries its own, see `errors`."""

DONE = 0
FINDINGS = 1  # of `check` alone: something at or above --fail-on
USAGE = 2  # also: a run that cannot be read
INTERNAL_ERROR = 3  # of GradScope itself
NOT_ENOUGH_DATA = 4  # of `check` alone: too little was recorded to judge
INTERRUPTED = 130  # Ctrl-C; 128 + the signal's number, as shells say it
BROKEN_PIPE = 141  # nobody reads the output any more; the same
