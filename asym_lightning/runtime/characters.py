"""Characters that no encoder takes: halves of surrogate pairs, and NULs."""

REPLACEMENT = "\ufffd"


def clean_text(text: str) -> str:
    """Return text that every tokenizer, file and terminal takes.

    Two halves of a pair are joined; a lone half and a NUL become U+FFFD.
    """
    text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        units = text.encode("utf-16-le", "surrogatepass")
        return units.decode("utf-16-le", "replace")
    return text
