"""A release with random weights on a tiny base that passes the real checks, as conversion would leave it."""

from pathlib import Path

from tests.conftest import build_adapter
from zoo.models import BaseModel
from zoo.provenance import payload_digests
from zoo.specs.lock import Lock, dump_lock
from zoo.specs.release import GatePolicy, InvocationSpec, Message, Position, ReleaseSpec, dump_release

REASON = "a random adapter has no task"
TEXTS = {
    Position.AFTER_PROMPT: "<|im_start|>check\n",
    Position.GENERATION_PROMPT: "<|im_start|>assistant\n",
    Position.IN_MESSAGE: "<|im_start|>check<|im_end|>",
}


def real_release(
    base: BaseModel,
    folder: Path,
    *,
    version: str = "0.1.0",
    position: Position = Position.AFTER_PROMPT,
    commit: str = "",
    seed: int = 1,
) -> Path:
    """Writes the release; `commit` is the base's where it is on a Hub."""
    from safetensors.torch import load_file, save_file

    from zoo.prompts import Prompter

    text = TEXTS[position]
    ids = list(Prompter(base).encode(text))
    build_adapter(base, folder, alora_invocation_tokens=ids, lora_alpha=4, strength=1.0)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * seed for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    question = f"Is it relevant?{text}" if position is Position.IN_MESSAGE else "Is it relevant?"
    spec = ReleaseSpec(
        name="relevance",
        version=version,
        base=base.reference().model_copy(update={"revision": commit or None}),
        invocation=InvocationSpec(text=text, position=position),
        samples=[[Message(role="user", content=question)]],
        gate=GatePolicy(allowed_skips={"ZB001": REASON}),
    )
    (folder / "zoo.yaml").write_text(dump_release(spec))
    locked = base.lock()
    if commit:
        locked = locked.model_copy(update={"revision": commit, "weights_sha256": None})
    lock = Lock(zoo_version="0.1.0", files=payload_digests(folder), base=locked)
    (folder / "zoo.lock.json").write_text(dump_lock(lock))
    return folder
