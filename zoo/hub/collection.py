"""Collections: a list of repositories under one heading, which a release can be put into.

Source: huggingface_hub 1.33.0 and 2.4.0, `create_collection` and `add_collection_item`: both take `exists_ok`
and answer a 409 by reading what is there.
"""

import re

from zoo.errors import UsageError
from zoo.hub.client import open_api
from zoo.hub.errors import translated

_SLUG = re.compile(r"[^/\s]+/[a-z0-9-]+-[0-9a-f]{24}")  # as in a collection's address: title and an id
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*)/(\S(?:.*\S)?)")
MAX_NOTE = 500  # characters


def check_collection(name: str) -> None:
    """Refuses a name that can be no collection's.

    Raises:
        UsageError: it is neither `ORG/TITLE` nor the end of a collection's address.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a collection's name", hint="write it as ORG/TITLE, or copy it from its address"
        )


def add_to_collection(name: str, repo: str, *, note: str = "") -> str:
    """Puts a model repository into a collection, which is made if it is not there; once is enough.

    Args:
        name: `ORG/TITLE`, or the end of the collection's address, `ORG/title-0123456789abcdef01234567`.
        repo: `org/name`.
        note: shown beside it; cut to what the Hub takes. One that stands there already stays.

    Returns:
        The collection's address.

    Raises:
        UsageError: no such name is possible.
        NotFoundError: there is no collection at that address.
        HubError: ZH007 no access, ZH008 no answer: it may have been done.
    """
    check_collection(name)
    with translated(f"put {repo} into the collection {name}"):
        api = open_api()
        slug = name
        if not _SLUG.fullmatch(name):
            owner, _, title = name.partition("/")
            slug = api.create_collection(title, namespace=owner, exists_ok=True).slug
        made = api.add_collection_item(slug, repo, "model", note=note[:MAX_NOTE] or None, exists_ok=True)
    return str(made.url)
