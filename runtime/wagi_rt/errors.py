"""The error that a user is meant to read."""


class UserError(Exception):
    """One line: the option or file, what is wrong, what to do next.

    `status` is the exit status: 2 for wrong usage, 1 for work that failed.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
