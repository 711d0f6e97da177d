"""Names of files that another system reads as something else.

Sources: learn.microsoft.com, "Naming Files, Paths, and Namespaces"; Unicode Technical Standard 39, sections 4
(confusables) and 5.1 (mixed scripts); UAX 15 (normalisation).
"""

import re

_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# Alphabets whose letters look like Latin ones.
_ALIKE = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "DESERET", "GEORGIAN")


def misread(name: str) -> str:
    """Why a path is not the same everywhere, or an empty string.

    Args:
        name: relative, with `/`.
    """
    if "\\" in name or not name.isprintable():
        return "has a backslash or an unprintable character in its name"
    for part in name.split("/"):
        if _DEVICES.fullmatch(part):
            return "is called as a device is on Windows"
        if _FORBIDDEN.search(part):
            return "has a character in its name that Windows does not allow"
        if part != part.strip(" ") or part.endswith(".") or part.startswith(("-", "~")):
            return "begins or ends with a character that is lost or taken for an option"
    return "" if name.isascii() else _look_alike(name)


def folded(name: str) -> str:
    """A form in which two names are the same where some file system takes them for one."""
    if name.isascii():
        return name.casefold()
    import unicodedata

    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _look_alike(name: str) -> str:
    import unicodedata

    if unicodedata.normalize("NFKC", name) != unicodedata.normalize("NFC", name):
        return "is written with letters that stand for others"
    for word in re.split(r"[\W_]+", name):
        alphabets = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}
        if "LATIN" in alphabets and not alphabets.isdisjoint(_ALIKE):
            return "mixes Latin letters with others that look like them"
    return ""
