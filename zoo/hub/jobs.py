"""Jobs on the Hub's machines: started with a repository mounted, looked after, read, stopped.

Source: huggingface_hub 2.4.0, hf_api.py (`run_job`, `inspect_job`, `fetch_job_logs`, `cancel_job`) and
_jobs_api.py (stages); 1.33.0 has the same calls. They were run against the tests' Hub, never on the real one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from zoo.hub.client import open_api
from zoo.hub.errors import translated

ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A model repository in a Job's file system, read-only.

    Attributes:
        repo: `org/name`.
        commit: that is mounted.
        path: where.
    """

    repo: str
    commit: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """How a Job stands.

    Attributes:
        stage: the Hub's word, such as `RUNNING`.
        message: what the Hub says about it; often nothing.
    """

    stage: str
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not run any further."""
        return self.stage in ENDED


def start_job(
    command: Sequence[str],
    *,
    image: str,
    flavour: str,
    mount: Mount,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    seconds: int,
) -> str:
    """Starts a Job in the user's namespace, which is billed for it, and returns its id.

    The user's token goes along as the secret `HF_TOKEN`, so that private and gated models can be read.

    Args:
        command: what the container runs.
        image: of the container.
        flavour: of the machine, such as `l4x1`.
        mount: what it reads.
        environment: variables; anybody in the namespace sees them.
        labels: to find it by.
        seconds: after which the Hub stops it.

    Raises:
        HubError: ZH007 no access, ZH008 no answer: the Job may have been started.
    """
    from huggingface_hub import Volume, get_token

    token = get_token()
    with translated(f"start a Job on {flavour}"):
        made = open_api().run_job(
            image=image,
            command=list(command),
            flavor=flavour,
            env=dict(environment),
            secrets={"HF_TOKEN": token} if token else None,
            volumes=[Volume(type="model", source=mount.repo, revision=mount.commit, mount_path=mount.path)],
            labels=dict(labels),
            timeout=seconds,
            namespace=_namespace(),
        )
    return str(made.id)


def job_state(job: str) -> JobState:
    """How a Job stands.

    Raises:
        NotFoundError: there is none.
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"ask after the Job {job}"):
        status = open_api().inspect_job(job_id=job, namespace=_namespace()).status
    return JobState(stage=str(getattr(status.stage, "value", status.stage)), message=status.message or "")


def job_lines(job: str) -> list[str]:
    """What a Job has printed so far.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"read what the Job {job} said"):
        return list(open_api().fetch_job_logs(job_id=job, namespace=_namespace()))


def cancel_job(job: str) -> None:
    """Stops a Job.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"stop the Job {job}"):
        open_api().cancel_job(job_id=job, namespace=_namespace())


@cache
def _namespace() -> str:
    """The token's own; the client would ask for it at every call."""
    return str(open_api().whoami()["name"])
