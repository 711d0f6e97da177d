"""Jobs: a command on the Hub's machines with repositories mounted.

Form of requests and answers: the client's source (huggingface_hub 2.4.0, hf_api.py, _jobs_api.py). What
happens inside a container is up to `Store.machine`, which the test provides.
"""

import json
from http import HTTPStatus

from tests.hub.job import Job
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, json_response


def start(store: Store, request: Request) -> Response:
    """`POST /api/jobs/{namespace}`: run a command; its secrets are kept and never said again."""
    spec = request.json()
    for needed in ("command", "flavor", "environment"):
        if needed not in spec:
            raise HubError(HTTPStatus.BAD_REQUEST, f"{needed} is missing")
    if request["namespace"] != request.sender.name:
        raise HubError(HTTPStatus.FORBIDDEN, "You may not start Jobs there")
    for volume in spec.get("volumes", []):
        store.visible_repository(volume["source"], request.account).resolve(volume.get("revision", "main"))
    job = Job(id=f"{len(store.jobs):024x}", owner=request["namespace"], spec=spec)
    store.jobs[job.id] = job
    job.start(store.machine)
    return json_response(job.said())


def inspect(store: Store, request: Request) -> Response:
    """`GET /api/jobs/{namespace}/{job}`."""
    return json_response(_job(store, request).said())


def logs(store: Store, request: Request) -> Response:
    """`GET .../logs`: server-sent events, one a line."""
    lines = [f"===== Job started at {Job.TIME} =====", *_job(store, request).lines]
    events = [json.dumps({"data": line, "timestamp": Job.TIME}) for line in lines]
    body = "".join(f"data: {event}\n\n" for event in events)
    return Response(body=body.encode(), headers={"Content-Type": "text/event-stream"})


def cancel(store: Store, request: Request) -> Response:
    """`POST .../cancel`."""
    job = _job(store, request)
    job.stage = "CANCELED"
    return json_response(job.said())


def _job(store: Store, request: Request) -> Job:
    job = store.jobs.get(request["job"])
    if job is None or job.owner != request["namespace"]:
        raise HubError(HTTPStatus.NOT_FOUND, "Job not found")
    return job


ROUTES = (
    Route("POST", "/api/jobs/{namespace}", Access.WRITE, start),
    Route("GET", "/api/jobs/{namespace}/{job}", Access.TOKEN, inspect),
    Route("GET", "/api/jobs/{namespace}/{job}/logs", Access.TOKEN, logs),
    Route("POST", "/api/jobs/{namespace}/{job}/cancel", Access.WRITE, cancel),
)
