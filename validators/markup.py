"""Words of an author that would act on their reader: markup that runs, characters that are not seen.

A card is read on the Hub, in editors, in terminals and by other programs; each guards against some of this.
Sources: WHATWG HTML, section 8.1.8 (event handlers); OWASP, "XSS Filter Evasion"; CVE-2021-42574
(bidirectional overrides); Unicode 16, chapter 23 (tags, format characters).
"""

import re

_ACTIVE = re.compile(
    r"<\s*/?\s*(?:script|iframe|frame|frameset|object|embed|applet|form|input|button|meta|link|style|base|svg|math"
    r"|template)\b"
    r"|<[a-z][^<>]{0,400}[\s/\"']on[a-z]{3,24}\s{0,4}="
    r"|\b(?:javascript|vbscript)\s{0,8}:"
    r"|\bdata\s{0,8}:\s{0,8}(?:text/html|image/svg)",
    re.IGNORECASE,
)
# Control characters but tab and line breaks; overrides of direction; marks and tags without a shape.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff\U000e0000-\U000e007f]"
)


def acts(text: str, *, comments: bool = False) -> str:
    """What in a text would act on its reader; empty where nothing does.

    Args:
        text: Markdown or plain.
        comments: whether HTML comments are let through; one that is left open hides what follows.
    """
    if found := _UNSEEN.search(text):
        return f"holds the character U+{ord(found.group()):04X}, which is not seen and acts"
    plain = text
    if "&" in text:
        import html

        plain = html.unescape(text)
    if found := _ACTIVE.search(plain):
        return f"holds {found.group()[:40]!r}, which browsers run"
    if not comments and "<!--" in plain:
        return "holds an HTML comment, which hides what follows it"
    return ""
