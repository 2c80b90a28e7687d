"""The one error that is meant for the user.

A refusal names the thing as the user wrote it, what was given, what is allowed
and what to do, in one line.  The command line prints it without a traceback and
ends with exit code 2; in a notebook it is an ordinary `ValueError`.
"""


class Refusal(ValueError):  # noqa: N818 - it is no fault of the program
    """Input or settings that cannot be worked with, said in one line."""
