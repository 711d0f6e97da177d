"""Text from a stranger's files, made safe to show."""


def printable(text: str) -> str:
    """The text with everything invisible spelt out, line breaks included.

    A tensor's name may hold escape sequences that rewrite a terminal, characters that XML cannot carry, or
    marks that turn the reading direction round.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
