"""One exchange with a Xet store, as a process: `put ADDRESS FILE...` or `get ADDRESS HASH SIZE TARGET`.

`put` prints the hash of each file, one a line, in order.
"""

import sys

import hf_xet  # type: ignore[import-untyped]

# A local store checks no token, but the parameters are required.
NO_TOKEN = {"token": "unused", "token_expiry_unix_secs": 2**40}


def put(address: str, *files: str) -> None:
    """Upload files."""
    with hf_xet.XetSession().new_upload_commit(endpoint=address, **NO_TOKEN) as commit:
        uploads = [commit.start_upload_file(file, sha256=hf_xet.COMPUTE_SHA256) for file in files]
    for upload in uploads:
        print(upload.result().xet_info.hash)


def get(address: str, xet_hash: str, size: str, target: str) -> None:
    """Download one content."""
    with hf_xet.XetSession().new_file_download_group(endpoint=address, **NO_TOKEN) as group:
        group.start_download_file(hf_xet.XetFileInfo(xet_hash, int(size)), target)


if __name__ == "__main__":
    if sys.argv[1] == "put":
        put(*sys.argv[2:])
    else:
        get(*sys.argv[2:])
