"""The one exception that users of dpose_yolo see."""


class DPoseError(Exception):
    """Bad input, told in one line: what is wrong, where, and how to mend it.

    The command line prints the line to standard error and exits with status 1; from Python it is an ordinary exception.
    """


def printable(text: str) -> str:
    """Text in one line, with line breaks, terminal escapes and bytes that are not UTF-8 as backslash sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


NOT_TEXT = "its name is not UTF-8: rename it"  # of a file that OpenCV cannot open and no table can name
