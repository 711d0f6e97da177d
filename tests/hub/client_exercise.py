"""Everything this project asks of a Hub client, done once, with whatever huggingface_hub is installed.

Run by tests in a process of its own, since the client reads its settings from the environment when it is
imported. It knows nothing of the test double: the environment says where the Hub is. It prints what it saw as
one JSON object, from step to observation, and judges nothing; `test_client.py` does. It imports only the
client and safetensors, so that it also runs in the environment of an older client.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DiscussionComment, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

REPO = "org/name"
CARD = b"---\nlicense: apache-2.0\nbase_model: org/base\nlibrary_name: peft\n---\n\n# A model\n"
CONFIG = b'{"peft_type": "LORA"}\n'


def safetensors(value: int, entries: int = 40_000) -> bytes:
    """A safetensors file with one int8 tensor, made by hand: this must run without numpy."""
    header = json.dumps(
        {"weight": {"dtype": "I8", "shape": [entries], "data_offsets": [0, entries]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(i * value % 127 for i in range(entries))


def release(value: int) -> dict[str, bytes]:
    return {
        "README.md": CARD + f"\nRelease {value}\n".encode(),
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": safetensors(value),
        "nested/notes.txt": b"notes\n",
    }


def additions(files: dict[str, bytes]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, content) for path, content in files.items()]


def refusal(call: Callable[[], object]) -> list[Any]:
    """Return how a call fails: the class of the exception, and the status if the Hub answered."""
    try:
        call()
    except Exception as error:
        response = getattr(error, "response", None)
        return [type(error).__name__, None if response is None else response.status_code]
    return ["nothing was raised", None]


def account(api: HfApi) -> dict[str, Any]:
    return {
        "whoami": api.whoami()["name"],
        "wrong token": refusal(lambda: HfApi(token="hf_wrong").whoami()),
        "write without token": refusal(lambda: HfApi(token=False).create_repo("org/other")),
    }


def repository(api: HfApi) -> dict[str, Any]:
    return {
        "url": api.create_repo(REPO).repo_id,
        "exist_ok": api.create_repo(REPO, exist_ok=True).repo_id,
        "again": refusal(lambda: api.create_repo(REPO)),
        "exists": [api.repo_exists(REPO), api.repo_exists("org/absent")],
        "files": api.list_repo_files(REPO),
    }


def publishing(api: HfApi) -> dict[str, Any]:
    head = api.model_info(REPO).sha
    first = api.create_commit(REPO, additions(release(1)), commit_message="Release 1", parent_commit=head)
    unchanged = api.create_commit(REPO, additions(release(1)), commit_message="Release 1 again")
    stale = refusal(
        lambda: api.create_commit(REPO, additions(release(2)), commit_message="Release 2", parent_commit=head)
    )
    bad_card = b"---\nlicense: no-such-licence\n---\n"
    return {
        "head moved": first.oid == api.model_info(REPO).sha != head,
        "no-op returns the head": unchanged.oid == first.oid,
        "stale parent": stale,
        "bad card": refusal(
            lambda: api.create_commit(REPO, additions({"README.md": bad_card}), commit_message="Bad")
        ),
        "commits": [commit.title for commit in api.list_repo_commits(REPO)],
    }


def reading(api: HfApi) -> dict[str, Any]:
    tree = {entry.path: entry for entry in api.list_repo_tree(REPO, recursive=True)}
    weights = tree["adapter_model.safetensors"]
    assert isinstance(weights, RepoFile)
    info = api.model_info(REPO, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    paths = api.get_paths_info(REPO, ["nested", "README.md", "absent.txt"], expand=True)
    header = api.parse_safetensors_file_metadata(REPO, "adapter_model.safetensors")
    card = ModelCard.load(REPO)
    return {
        "files": api.list_repo_files(REPO),
        "folders": [path for path, entry in tree.items() if not isinstance(entry, RepoFile)],
        "top level": [entry.path for entry in api.list_repo_tree(REPO)],
        "weights sha256": weights.lfs["sha256"] if weights.lfs else None,
        "weights by xet": weights.xet_hash is not None,
        "weights size": sizes["adapter_model.safetensors"],
        "tags": info.tags,
        "paths": {entry.path: entry.last_commit.title for entry in paths if entry.last_commit},
        "tensors": {name: tensor.shape for name, tensor in header.tensors.items()},
        "card": [card.data.license, card.data.base_model, card.text.strip().splitlines()[0]],
        "file exists": [api.file_exists(REPO, "README.md"), api.file_exists(REPO, "absent.txt")],
    }


def names(api: HfApi) -> dict[str, Any]:
    first = api.model_info(REPO).sha
    api.create_tag(REPO, tag="v1.0.0", revision=first, tag_message="Release 1")
    api.create_branch(REPO, branch="next")
    api.create_commit(REPO, additions(release(2)), commit_message="Release 2", revision="next")
    api.create_tag(REPO, tag="v1.0.0", revision="next", exist_ok=True)
    api.create_tag(REPO, tag="thrown-away", revision=str(first)[:7])
    api.delete_tag(REPO, tag="thrown-away")
    seen = {
        "duplicate tag": refusal(lambda: api.create_tag(REPO, tag="v1.0.0")),
        "tag did not move": api.model_info(REPO, revision="v1.0.0").sha == first,
        "tag of nothing": refusal(lambda: api.create_tag(REPO, tag="v9", revision="absent")),
        "deleted tag": refusal(lambda: api.model_info(REPO, revision="thrown-away")),
        "duplicate branch": refusal(lambda: api.create_branch(REPO, branch="next")),
        "delete main": refusal(lambda: api.delete_branch(REPO, branch="main")),
        "resolved": api.resolve_revision(REPO, revision="v1.0.0").resolved == first,
        "refs": [ref.ref for ref in [*api.list_repo_refs(REPO).branches, *api.list_repo_refs(REPO).tags]],
    }
    api.delete_branch(REPO, branch="next")
    return seen


def pull_request(api: HfApi) -> dict[str, Any]:
    changed = {"nested/notes.txt": b"other notes\n", "adapter_model.safetensors": safetensors(3)}
    made = api.create_commit(REPO, additions(changed), commit_message="Propose", create_pr=True)
    assert made.pr_num is not None
    api.create_commit(
        REPO,
        [CommitOperationAdd("more.txt", b"more\n"), CommitOperationDelete("adapter_config.json")],
        commit_message="Propose more",
        revision=made.pr_revision,
    )
    comment = api.comment_discussion(REPO, made.pr_num, "Checks passed")
    api.edit_discussion_comment(REPO, made.pr_num, comment.id, "All checks passed")
    notes = api.hf_hub_download(REPO, "nested/notes.txt", revision=made.pr_revision)
    before = api.get_discussion_details(REPO, made.pr_num)
    main_before = api.list_repo_files(REPO)
    api.merge_pull_request(REPO, made.pr_num, comment="Merging")
    after = api.get_discussion_details(REPO, made.pr_num)
    return {
        "revision": made.pr_revision,
        "read at the pull request": Path(notes).read_text(),
        "main before": main_before,
        "status": [before.status, after.status],
        "conflicts": before.conflicting_files,
        "diff has": ["-notes" in str(before.diff), "+other notes" in str(before.diff)],
        "events": [event.type for event in after.events],
        "comments": [event.content for event in after.events if isinstance(event, DiscussionComment)],
        "merge commit is the head": after.merge_commit_oid == api.model_info(REPO).sha,
        "main after": api.list_repo_files(REPO),
        "refs": [ref.ref for ref in api.list_repo_refs(REPO, include_pull_requests=True).pull_requests or []],
    }


def discussion(api: HfApi) -> dict[str, Any]:
    opened = api.create_discussion(REPO, title="A question", description="Why?")
    draft = api.create_pull_request(REPO, title="A draft")
    api.rename_discussion(REPO, opened.num, "A better question")
    api.change_discussion_status(REPO, opened.num, "closed", comment="Answered")
    return {
        "draft": [draft.status, draft.git_reference],
        "merge a draft": refusal(lambda: api.merge_pull_request(REPO, draft.num)),
        "all": [[one.num, one.title, one.status] for one in api.get_repo_discussions(REPO)],
        "closed": [one.num for one in api.get_repo_discussions(REPO, discussion_status="closed")],
        "missing": refusal(lambda: api.get_discussion_details(REPO, 99)),
    }


def folders(api: HfApi, work: Path) -> dict[str, Any]:
    source = work / "source"
    for path, content in release(4).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    api.upload_folder(repo_id=REPO, folder_path=source, path_in_repo="copy", commit_message="Folder")
    proposed = api.upload_folder(
        repo_id=REPO, folder_path=source, path_in_repo="proposed", commit_message="Folder", create_pr=True
    )
    return {
        "on main": sorted(path for path in api.list_repo_files(REPO) if path.startswith("copy/")),
        "proposed": sorted(
            path
            for path in api.list_repo_files(REPO, revision=f"refs/pr/{proposed.pr_num}")
            if path.startswith("proposed/")
        ),
    }


def downloading(api: HfApi, work: Path) -> dict[str, Any]:
    snapshot = Path(api.snapshot_download(REPO, revision="v1.0.0"))
    found = {path: (snapshot / path).read_bytes() for path in release(1)}
    verified = api.verify_repo_checksums(REPO, revision="v1.0.0")
    plain = Path(api.snapshot_download(REPO, revision="v1.0.0", local_dir=work / "plain"))
    (plain / "nested" / "notes.txt").write_text("tampered\n")
    tampered = api.verify_repo_checksums(REPO, revision="v1.0.0", local_dir=plain)
    return {
        "as published": found == release(1),
        "verified": [verified.checked_count, len(verified.mismatches), len(verified.missing_paths)],
        "tampered": [mismatch["path"] for mismatch in tampered.mismatches],
        "one commit": snapshot.name == api.model_info(REPO, revision="v1.0.0").sha,
    }


def absent(api: HfApi) -> dict[str, Any]:
    stranger = HfApi(token=False)
    api.create_repo("org/secret", private=True)
    return {
        "repository": refusal(lambda: api.model_info("org/absent")),
        "repository, no token": refusal(lambda: stranger.model_info("org/absent")),
        "private, no token": refusal(lambda: stranger.model_info("org/secret")),
        "private, token": api.model_info("org/secret").private,
        "revision": refusal(lambda: api.model_info(REPO, revision="absent")),
        "file": refusal(lambda: api.hf_hub_download(REPO, "absent.txt")),
        "commit": refusal(
            lambda: api.create_commit("org/absent", additions({"a.txt": b"a"}), commit_message="Nowhere")
        ),
        "deleted file": refusal(
            lambda: api.create_commit(REPO, [CommitOperationDelete("absent.txt")], commit_message="Nothing")
        ),
        "bad path": refusal(
            lambda: api.create_commit(REPO, additions({"..\\a.txt": b"a"}), commit_message="Escape")
        ),
    }


def deletion(api: HfApi) -> dict[str, Any]:
    api.delete_repo("org/secret")
    return {
        "left": [one.id for one in api.list_models(author="org")],
        "again": refusal(lambda: api.delete_repo("org/secret")),
        "missing_ok": refusal(lambda: api.delete_repo("org/secret", missing_ok=True)),
    }


def main() -> None:
    warnings.simplefilter("error", UserWarning)  # what the Hub has against a card
    api, work = HfApi(), Path(sys.argv[1])
    observations = {
        "version": huggingface_hub.__version__,
        "account": account(api),
        "repository": repository(api),
        "publishing": publishing(api),
        "reading": reading(api),
        "names": names(api),
        "pull request": pull_request(api),
        "discussion": discussion(api),
        "folders": folders(api, work),
        "downloading": downloading(api, work),
        "absent": absent(api),
        "deletion": deletion(api),
    }
    json.dump(observations, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except HfHubHTTPError as error:
        sys.exit(f"{error}\n{error.response.text}")
