"""The table of routes, and how a request finds its way through it."""

from http import HTTPStatus

from tests.hub.endpoints import (
    accounts,
    collections,
    commits,
    discussions,
    files,
    jobs,
    lfs,
    refs,
    repositories,
    tree,
    xet,
)
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import Account, HubError, Request, Response

ROUTES: tuple[Route, ...] = (
    *accounts.ROUTES,
    *repositories.ROUTES,
    *commits.ROUTES,
    *tree.ROUTES,
    *refs.ROUTES,
    *discussions.ROUTES,
    *collections.ROUTES,
    *lfs.ROUTES,
    *xet.ROUTES,
    *jobs.ROUTES,
    *files.ROUTES,
)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the route for a request, HEAD as GET, and the path's variables, still percent-encoded."""
    wanted = "GET" if method == "HEAD" else method
    for route in ROUTES:
        if route.method == wanted and (variables := route.match(path)) is not None:
            return route, variables
    return None


def respond(store: Store, request: Request) -> Response:
    """Answer a request: find the route, check the token, do it, save."""
    try:
        account = sender(store, request)
        found = find_route(request.method, request.path)
        if found is None:
            raise HubError(HTTPStatus.NOT_FOUND, f"This Hub has no route {request.method} {request.path}")
        route, variables = found
        routed = request.routed(variables, account)
        check_access(route, routed)
        with store.lock:
            response = route.handle(store, routed)
            if route.access.is_write:
                store.save()
    except HubError as error:
        return error.response()
    return response


def sender(store: Store, request: Request) -> Account | None:
    """Return who sent a request; None if it came without a token.

    Raises:
        HubError: 401 if the token is unknown. A wrong token is refused even where none is needed.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if not kind:
        return None
    if kind.lower() != "bearer" or token not in store.accounts:
        raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    return store.accounts[token]


def check_access(route: Route, request: Request) -> None:
    """Refuse a request whose sender may not do what the route does.

    Raises:
        HubError: 401 without a token where one is needed, 403 with one that does not allow it.
    """
    if route.access in (Access.ANYONE, Access.SIGNED_LINK):
        return
    account = request.sender
    if route.access is Access.WRITE and not account.may_write_to(request.variables.get("repo")):
        raise HubError(HTTPStatus.FORBIDDEN, "You have read access but not the required permissions")
