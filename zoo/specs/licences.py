"""Which licence an adapter may have, given the base's: what the terms of a base say of what is made from it.

An adapter is small, and whether it is a derivative is for courts; but it is used with its base only, so its
card must not promise what the base's terms withhold. Names are the Hub's.
Sources: huggingface.co/docs/hub/repositories-licenses (names); Creative Commons 4.0, legal codes, sections
2(a) and 3(b); GNU GPL 3, section 13; the Llama 2 to 4 community licences, section 1.b; Gemma terms of use,
section 3.1; CreativeML and BigScience OpenRAIL-M, section 4 and attachment A.
"""

from pathlib import Path

OTHER = "other"
# Whatever is made from these may have any licence.
_FREE = frozenset(
    {
        "afl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
        "bsl-1.0", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "cdla-permissive-1.0",
        "cdla-permissive-2.0", "ecl-2.0", "intel-research", "isc", "mit", "ms-pl", "ncsa", "odc-by",
        "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
    }
)  # fmt: skip
_ALSO = {  # licences that take in what another one covers
    "gpl-3.0": ("agpl-3.0",),
    "lgpl-3.0": ("gpl-3.0", "agpl-3.0"),
    "cc-by-nc-4.0": ("cc-by-nc-sa-4.0",),
    "cc-by-nc-3.0": ("cc-by-nc-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-2.0": ("cc-by-nc-sa-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    "cc-by-sa-3.0": ("cc-by-sa-4.0",),
}
_FAMILIES = {  # whose cards often do not come with the weights
    "meta-llama/llama-2-": "llama2",
    "meta-llama/meta-llama-3-": "llama3",
    "meta-llama/meta-llama-3.1-": "llama3.1",
    "meta-llama/llama-3.1-": "llama3.1",
    "meta-llama/llama-3.2-": "llama3.2",
    "meta-llama/llama-3.3-": "llama3.3",
    "google/gemma-2": "gemma",
    "google/gemma-3": "gemma",
}


def stated_license(card: Path) -> str:
    """The licence in a card's front matter; empty where it states none or cannot be read.

    Args:
        card: a README.md.
    """
    from zoo.errors import ZooError
    from zoo.specs.document import parse_yaml, read_bounded

    try:
        head, _, rest = read_bounded(card).replace(b"\r\n", b"\n").partition(b"---\n")
        stated = {} if head.strip() else parse_yaml(rest.partition(b"\n---")[0], name=card.name)
    except ZooError:
        return ""
    found = stated.get("license") if isinstance(stated, dict) else None
    return found.lower() if isinstance(found, str) else ""


def family_license(base: str) -> str:
    """The licence of a family of base models whose names begin alike; empty for others.

    Args:
        base: `org/name`.
    """
    return next((name for start, name in _FAMILIES.items() if base.lower().startswith(start)), "")


def conflict(base: str, own: str) -> str:
    """Why an adapter cannot have its licence on its base; empty where it can, or nobody can tell.

    Args:
        base: the base's licence.
        own: the adapter's.
    """
    if not base or base in _FREE or base == OTHER:
        return ""
    if "-nd-" in base:
        return f"{base} lets nobody pass on what is made from the base"
    if own in (base, OTHER, *_ALSO.get(base, ())):
        return ""
    if "-nc-" in base:
        return f"{base} rules out commercial use, and {own} allows it"
    return f"{base} holds for what is made from the base, and {own} leaves its terms out"


def unclear(base: str, own: str) -> str:
    """What the names of two licences do not tell; empty where they do."""
    if base and base not in _FREE and OTHER in (base, own):
        return f"the base is under {base} and the adapter under {own}: read both"
    return ""
