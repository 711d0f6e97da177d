"""release-2: what zoo published, loaded by others: PeftModel, `hf download`, mellea and granite-common.

    python -m tests.benchmarks.published_loaders

One real adapter on a tiny base is checked and published by the command line onto a Hub on loopback: at the
top of a repository of its own, and in a library at `<intrinsic>/<base>/alora`, where mellea and
granite-common look. Each loader is the unmodified published one and is told the repository and the tag. The
same files at places where a loader does not look, and another adapter's weights, are the controls: they must
fail or differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("published_upstream.py")
NAME, BASE = "relevance", "tiny-llama"
FLAT, LIBRARY, OLD = "org/relevance", "org/library", "org/old-layout"
FOLDER = f"{NAME}/{BASE}/alora"
TAGS = {FLAT: "v0.1.0", LIBRARY: f"{NAME}-{BASE}-alora-v0.1.0"}
IO = """model: ~
response_format: |
  {"type": "string", "enum": ["yes", "no"]}
transformations: ~
instruction: ~
parameters: {max_completion_tokens: 8, temperature: 0.0}
docs_as_message: string
"""
REQUEST = {
    "messages": [{"role": "user", "content": "Is it relevant?"}],
    "extra_body": {"documents": [{"doc_id": "1", "text": "Bridges cross rivers."}]},
}


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream-python", type=Path, help="of an environment that has both packages")
    parser.add_argument("--logits", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.logits:
        print_logits(*options.logits)
        return
    with tempfile.TemporaryDirectory(prefix="loaders-") as name:
        work = Path(name)
        python = options.upstream_python or upstream_python(work / "upstream")
        loads, controls = measure(work, python)
    record_outcome(loads, controls)


def record_outcome(loads: dict[str, bool], controls: dict[str, bool]) -> None:
    """Writes the figure."""
    from tests.benchmarks.evidence import record

    record(
        "release",
        "release-2",
        "a release published by zoo publish, loaded by other people's programs as it lies on the Hub: "
        "loads that give the published files, or the logits of the published folder; controls that must not",
        value={"loads": loads, "controls_refused": controls},
        bar="every load works, every control is refused or differs",
        met=all(loads.values()) and all(controls.values()),
        ratio_of="the folder that was published; the same files in another layout",
        command="python -m tests.benchmarks.published_loaders",
        note="granite-common 0.4.1, mellea 0.8.0, the hf command of huggingface_hub 2.4.0; Hub on loopback",
    )


def upstream_python(folder: Path) -> Path:
    """The Python of a fresh environment with both published packages and a client."""
    from tests.benchmarks.io_agreement import upstream_python as executors

    python = executors(folder)
    subprocess.run([python, "-m", "pip", "install", "-q", "huggingface_hub==2.4.0"], check=True)
    return python


def measure(work: Path, python: Path) -> tuple[dict[str, bool], dict[str, bool]]:
    """Publishes, loads, and compares; what worked, and which controls were refused."""
    from tests.hub.server import HubServer

    with HubServer() as hub:
        environment = {**os.environ, **hub.environment(work / "home", xet=False), "OMP_NUM_THREADS": "1"}
        release = make_release(work)
        for target in (FLAT, f"{LIBRARY}/{FOLDER}"):
            command = [sys.executable, "-m", "zoo", "publish", str(release), "--repo", target, "--quiet"]
            subprocess.run([*command, "--base", str(work / "base")], env=environment, check=True, cwd=work)
        files = {
            name: content
            for name, content in hub.store.contents(FLAT, TAGS[FLAT]).items()
            if name != ".gitattributes"
        }
        hub.store.create(OLD)
        hub.store.commit(OLD, {f"{NAME}/alora/{BASE}/{name}": data for name, data in files.items()})
        loads, controls = by_client(work, environment, files)
        more = by_upstream(work, environment, python, files)
        return {**loads, **more[0], **by_peft(work, environment, release)}, {**controls, **more[1]}


def make_release(work: Path) -> Path:
    """A release with a contract, as conversion leaves it; and another one's weights, for a control."""
    from tests.conftest import build_tiny_base
    from tests.real_release import real_release
    from zoo.models import resolve
    from zoo.provenance import payload_digests
    from zoo.specs.lock import Lock, dump_lock

    base = resolve(str(build_tiny_base(work / "base")))
    real_release(base, work / "other", seed=2)
    release = real_release(base, work / "release")
    (release / "io.yaml").write_text(IO)
    lock = Lock.model_validate_json((release / "zoo.lock.json").read_text())
    lock = lock.model_copy(update={"files": payload_digests(release)})
    (release / "zoo.lock.json").write_text(dump_lock(lock))
    return release


# ---------------------------------------------------------------- the hf command


def by_client(
    work: Path, environment: dict[str, str], files: dict[str, bytes]
) -> tuple[dict[str, bool], dict[str, bool]]:
    """`hf download` of both places, and of a tag that is not there."""
    hf = str(Path(sys.executable).with_name("hf"))

    def download(repo: str, tag: str, *more: str) -> Path | None:
        into = work / f"hf-{len(list(work.iterdir()))}"
        command = [hf, "download", repo, "--revision", tag, "--local-dir", str(into), *more]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return into if done.returncode == 0 else None

    flat = download(FLAT, TAGS[FLAT])
    below = download(LIBRARY, TAGS[LIBRARY], "--include", f"{FOLDER}/*")
    loads = {
        "hf download, own repository": flat is not None and contents(flat) == files,
        "hf download, library": below is not None and contents(below / FOLDER).keys() == files.keys(),
    }
    return loads, {"hf download of a tag that is not there": download(FLAT, "v9.9.9") is None}


def contents(folder: Path) -> dict[str, bytes]:
    """A folder's files but for what the client and git keep there."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.startswith(".cache/") and name != ".gitattributes"
    }


# ---------------------------------------------------------------- mellea and granite-common


def by_upstream(
    work: Path, environment: dict[str, str], python: Path, files: dict[str, bytes]
) -> tuple[dict[str, bool], dict[str, bool]]:
    """Their own functions, in an environment of their own."""
    places = {LIBRARY: TAGS[LIBRARY], FLAT: TAGS[FLAT], OLD: "main"}
    where = {"intrinsic": NAME, "base": BASE, "request": REQUEST}
    lines = [json.dumps({**where, "repo": repo, "revision": tag}) for repo, tag in places.items()]
    done = subprocess.run(
        [python, WORKER],
        env={**environment, "HF_HOME": str(work / "theirs"), "HF_HUB_CACHE": str(work / "theirs" / "hub")},
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    answers = dict(zip(places, map(json.loads, done.stdout.splitlines()), strict=True))
    loads = {f"{loader}, library": whole(said, files) for loader, said in answers[LIBRARY].items()}
    controls = {
        f"{loader}, {layout}": said.get("error") == "ValueError"
        for layout, repo in (("own repository", FLAT), ("<intrinsic>/alora/<base>", OLD))
        for loader, said in answers[repo].items()
    }
    return loads, controls


def whole(said: dict[str, Any], files: dict[str, bytes]) -> bool:
    """Whether a loader came back with every file that PEFT and a contract need, and used the contract."""
    if "error" in said:
        print(said)
        return False
    rewritten = said.get("rewritten")
    used = rewritten is None or "Bridges cross rivers." in json.dumps(rewritten["messages"])
    folder = Path(said["folder"])
    wanted = ("adapter_config.json", "adapter_model.safetensors", "io.yaml")
    return used and all((folder / name).read_bytes() == files[name] for name in wanted)


# ---------------------------------------------------------------- PEFT


def by_peft(work: Path, environment: dict[str, str], release: Path) -> dict[str, bool]:
    """`PeftModel.from_pretrained` of both places, against the folder that was published."""
    theirs = next((work / "theirs" / "hub").glob(f"models--org--library/snapshots/*/{FOLDER}"))
    sources = {
        "folder": {"id": str(release)},
        "PeftModel, own repository": {"id": FLAT, "revision": TAGS[FLAT]},
        "PeftModel, library": {"id": LIBRARY, "revision": TAGS[LIBRARY], "subfolder": FOLDER},
        "PeftModel, what mellea downloaded": {"id": str(theirs)},
        "another adapter": {"id": str(work / "other")},
        "no adapter": {},
    }
    module = "tests.benchmarks.published_loaders"
    done = subprocess.run(
        [sys.executable, "-m", module, "--logits", str(work / "base"), json.dumps(sources)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    digests = json.loads(done.stdout.splitlines()[-1])
    equal = {name: digests[name] == digests["folder"] for name in sources if name.startswith("PeftModel")}
    different = len({digests["folder"], digests["another adapter"], digests["no adapter"]}) == 3
    return {**equal, "PeftModel, another adapter and none differ": different}


def print_logits(base: str, sources: str) -> None:
    """Prints a digest of the logits on one prompt for each source: float32 (1, n, vocabulary), all bits."""
    import hashlib

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    text = "<|im_start|>user\nIs it relevant?<|im_end|>\n<|im_start|>check\n"
    ids = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt").input_ids
    found = {}
    for name, source in json.loads(sources).items():
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if source:
            model = PeftModel.from_pretrained(model, source.pop("id"), **source)
        with torch.no_grad():
            logits = model.eval()(input_ids=ids).logits
        found[name] = hashlib.sha256(logits.numpy().tobytes()).hexdigest()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
