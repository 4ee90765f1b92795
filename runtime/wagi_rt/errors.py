"""The error that a user is meant to read, and text that a terminal may be shown."""


class UserError(Exception):
    """One line: the option or file, what is wrong, what to do next.

    `status` is the exit status: 2 for wrong usage, 1 for work that failed.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str) -> str:
    """The text with everything escaped that a terminal might obey: control and format characters, line ends.

    File names and other people's files put such things into our lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
