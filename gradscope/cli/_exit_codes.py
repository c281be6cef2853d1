"""What the command line returns. An error raised on purpose carries its own, see `errors`."""

DONE = 0
USAGE = 2  # also: a run that cannot be read
INTERNAL_ERROR = 3  # of GradScope itself
INTERRUPTED = 130  # Ctrl-C; 128 + the signal's number, as shells say it
BROKEN_PIPE = 141  # nobody reads the output any more; the same
