"""The Hugging Face Hub: the only package that talks to it, and the place where its errors become zoo's.

Source: huggingface_hub 1.33.0 and 2.4.0, hf_api.py and errors.py; both were run against the tests' Hub.
"""

from zoo.hub.download import download, download_base
from zoo.hub.errors import UnavailableError
from zoo.hub.remote import Remote, RemoteFile, read_file, read_remote, read_tags, repository_url, sizes
from zoo.hub.writing import check_card, commit, create_repository, create_tag, set_gated

__all__ = [
    "Remote",
    "RemoteFile",
    "UnavailableError",
    "check_card",
    "commit",
    "create_repository",
    "create_tag",
    "download",
    "download_base",
    "read_file",
    "read_remote",
    "read_tags",
    "repository_url",
    "set_gated",
    "sizes",
]
