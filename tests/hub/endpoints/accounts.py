"""Who am I, is my card in order, and a token for a CI job."""

import secrets
from http import HTTPStatus

from tests.hub import card
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import Account, HubError, Request, Response, json_response

_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ONE_HOUR = 3600


def whoami(store: Store, request: Request) -> Response:
    """`GET /api/whoami-v2`: the token's account."""
    account = request.sender
    role = "write" if account.may_write else "read"
    return json_response(
        {
            "type": "user",
            "id": account.name,
            "name": account.name,
            "fullname": account.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": name, "roleInOrg": role} for name in account.orgs],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}},
        }
    )


def validate_yaml(store: Store, request: Request) -> Response:
    """`POST /api/validate-yaml`: check a README's front matter; 400 if it has errors. Writes nothing."""
    errors, warnings = card.problems(str(request.json().get("content", "")))
    return json_response(
        {
            "errors": [{"message": message} for message in errors],
            "warnings": [{"message": message} for message in warnings],
        },
        status=HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK,
    )


def exchange_identity_token(store: Store, request: Request) -> Response:
    """`POST /oauth/token`: a trusted publisher's identity token for a token that may write to one repository.

    RFC 8693. Whom to trust is in `Store.trusted`; the identity token is compared, not verified as a JWT.
    """
    body = request.json()
    if body.get("grant_type") != _TOKEN_EXCHANGE:
        raise HubError(HTTPStatus.BAD_REQUEST, "unsupported_grant_type")
    repo_id = store.trusted.get(str(body.get("subject_token")))
    if repo_id is None or repo_id != body.get("resource"):
        raise HubError(HTTPStatus.UNAUTHORIZED, "No trusted publisher matches this identity token")
    token = f"hf_jwt_{secrets.token_hex(16)}"
    store.accounts[token] = Account(name="trusted-publisher", only=repo_id)
    return json_response({"access_token": token, "token_type": "bearer", "expires_in": _ONE_HOUR})


ROUTES = (
    Route("GET", "/api/whoami-v2", Access.TOKEN, whoami),
    Route("POST", "/api/validate-yaml", Access.ANYONE, validate_yaml),
    Route("POST", "/oauth/token", Access.ANYONE, exchange_identity_token),
)
