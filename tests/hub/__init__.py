"""A Hub on loopback: what the real `huggingface_hub` client publishes to and loads from in the tests.

The client is never patched. It is told another address (`HF_ENDPOINT`) and talks HTTP to this server, which
keeps repositories, commits, branches, tags and pull requests. Reading this package is a way to learn the
Hub's protocol:

1. `POST /api/repos/create` makes a repository; `GET /api/models/{repo}` says where its head is.
2. `POST .../preupload/{revision}` tells the client, file by file, whether the content belongs in the commit
   ("regular") or in the large-file store ("lfs"), and which content the branch already has, so that unchanged
   files are left out.
3. Large files go up first: by git-LFS (`endpoints/lfs.py`) or by Xet (`endpoints/xet.py`).
4. `POST .../commit/{revision}` carries everything else as lines of JSON and is the single moment at which a
   change becomes visible (`endpoints/commits.py`). `parentCommit` makes it conditional: 412 if the branch
   moved meanwhile.
5. `POST .../tag/{revision}` names a commit; `GET /{repo}/resolve/{revision}/{path}` gives a file back.
6. `POST /api/jobs/{namespace}` starts a Job (`endpoints/jobs.py`); the test provides the machine it runs on.

What it does not do: organisations' permissions, requests for access, datasets and Spaces, security scans,
pagination of long listings, multi-part LFS uploads. Rules that come from the Hub's side were taken from the
client's source and from the client's own tests against the Hub's staging server; where those are silent the
docstring says that it is a choice.

Start with `tests.hub.server.HubServer`.
"""
