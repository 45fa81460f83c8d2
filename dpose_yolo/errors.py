"""The one exception that users of dpose_yolo see."""


class DPoseError(Exception):
    """Bad input, told in one line: what is wrong, where, and how to mend it.

    The command line prints the line to standard error and exits with status 1; from Python it is an ordinary exception.
    """


def printable(text: str) -> str:
    """Text in one line, with line breaks, terminal escapes and bytes that are not UTF-8 as backslash sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


NOT_TEXT = "its name is not UTF-8: rename it"  # of a file that OpenCV cannot open and no table can name


def table_cell(value: object) -> object:
    """A cell of a table: text that a spreadsheet would take for a formula gets a ' before it; the rest as it is."""
    if not isinstance(value, str) or value[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
