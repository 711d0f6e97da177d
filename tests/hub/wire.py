"""What goes over the wire: one request, one response, and the errors in the Hub's form."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who a token belongs to, and what the token may do.

    Attributes:
        name: User name; also the namespace of repositories created without one.
        orgs: Organisations that `whoami` lists.
        may_write: False for a read token.
        only: The one repository that the token may write to (what a trusted publisher gets), or None for all.
    """

    name: str
    orgs: tuple[str, ...] = ()
    may_write: bool = True
    only: str | None = None

    def may_write_to(self, repo_id: str | None) -> bool:
        """Return whether the token allows writing to a repository (None: to what is in no repository)."""
        return self.may_write and self.only in (None, repo_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, read completely.

    Attributes:
        path: As sent: percent-encoded, without the query. `refs%2Fpr%2F1` is one segment, and must stay one.
        query: Parameters after the question mark, decoded.
        headers: Names in lower case.
        base_url: Address of this server, for links in answers.
        variables: The parts of the path that the route names, decoded.
        account: Who sent it; None without a token.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base_url: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None

    def routed(self, encoded: Mapping[str, str], account: Account | None) -> "Request":
        """Return the request with its path's variables and its sender filled in."""
        return replace(
            self, variables={name: unquote(text) for name, text in encoded.items()}, account=account
        )

    def __getitem__(self, variable: str) -> str:
        return self.variables[variable]

    @property
    def sender(self) -> Account:
        """Who sent it, on a route that demands a token."""
        if self.account is None:
            raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
        return self.account

    def flag(self, name: str) -> bool:
        """Return whether a query parameter is set to something true."""
        return self.query.get(name, ["0"])[-1].lower() in {"1", "true"}

    def json(self) -> dict[str, Any]:
        """Parse the body as a JSON object; an empty body is an empty object.

        Raises:
            HubError: 400 if it is anything else.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise HubError(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP response, complete."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Response(
        status=status, body=json.dumps(value).encode(), headers=content_type | dict(headers or {})
    )


class HubError(Exception):
    """An answer that says no.

    The client chooses its exception class by `code` (header `X-Error-Code`): `RepoNotFound`,
    `RevisionNotFound`, `EntryNotFound`. Without a code, the status decides.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer `status` with `message`; `body` and `headers` are added to the usual ones."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = dict(body or {})
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer, with the message in the body and in the header, as the Hub does."""
        one_line = " ".join(self.message.split()).encode("ascii", "replace").decode()
        headers = {"X-Error-Message": one_line} | ({"X-Error-Code": self.code} if self.code else {})
        return json_response(
            {"error": self.message} | self.body, status=self.status, headers=headers | self.headers
        )


def repository_not_found(account: Account | None) -> HubError:
    """Return the answer for a repository that is not there, or is private and none of the sender's business.

    Without a token the Hub answers 401 rather than 404, so that nobody can find out which private names
    exist.
    """
    if account is None:
        return HubError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.", code="RepoNotFound")
    return HubError(HTTPStatus.NOT_FOUND, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    """Return the answer for a branch, tag or commit that is not there."""
    return HubError(HTTPStatus.NOT_FOUND, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(message: str, commit: str | None = None) -> HubError:
    """Return the answer for a file that a commit does not have (`commit` lets the client remember that)."""
    headers = {"X-Repo-Commit": commit} if commit else None
    return HubError(HTTPStatus.NOT_FOUND, message, code="EntryNotFound", headers=headers)
