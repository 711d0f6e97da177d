"""What a route is."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.hub.store import Store
from tests.hub.wire import Request, Response

Handler = Callable[[Store, Request], Response]


class Access(Enum):
    """What a request must show: nothing, a token, a token that may write, or that its link was signed."""

    ANYONE = "anyone"
    TOKEN = "token"
    WRITE = "write"
    SIGNED_LINK = "signed link"

    @property
    def is_write(self) -> bool:
        """Whether routes with this access change the Hub, or give leave to upload to it."""
        return self in (Access.WRITE, Access.SIGNED_LINK)


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, who may use it, and the function that answers.

    In `template`, `{repo}` stands for two segments (`namespace/name`), `{path}` for one or more, any other
    name for one. Segments are matched as they are sent: `refs%2Fpr%2F1` is one.
    """

    method: str
    template: str
    access: Access
    handle: Handler
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shapes = {"repo": "[^/]+/[^/]+", "path": ".+"}
        parts = re.split(r"\{(\w+)\}", self.template)
        pattern = "".join(
            f"(?P<{part}>{shapes.get(part, '[^/]+')})" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
        object.__setattr__(self, "_pattern", re.compile(pattern))

    def match(self, path: str) -> dict[str, str] | None:
        """Return the path's variables, still percent-encoded, or None if this is not the route."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()
