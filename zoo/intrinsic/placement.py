"""An adapter's invocation, and where it stands in a prompt."""

from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError
from zoo.prompts import Invocation, Prompter
from zoo.specs.io import IOSpec
from zoo.specs.release import Position


def invocation_of(repo: AdapterRepo, spec: IOSpec | None, prompter: Prompter) -> tuple[Invocation, str]:
    """The invocation of an adapter, and a remark when its place had to be guessed.

    Args:
        repo: its ids are in `adapter_config.json`, its text and place in `zoo.yaml`.
        spec: its `io.yaml`.
        prompter: of the base.

    Raises:
        RefusedError: ZI001, it has none.
    """
    ids = tuple(repo.config.alora_invocation_tokens or ())
    if not ids:
        raise RefusedError(
            f"{repo.name} has no invocation: it is a plain LoRA",
            code="ZI001",
            hint=f"zoo convert {repo.root} OUT makes an activated LoRA of it",
        )
    if repo.release is not None:
        said = repo.release.invocation
        return Invocation(text=said.text, ids=ids, position=said.position), ""
    text = prompter.decode(ids)
    position = _guess(text, spec, prompter)
    note = f"there is no zoo.yaml: the invocation {text!r} is taken to be {position.value}"
    return Invocation(text=text, ids=ids, position=position), note


def _guess(text: str, spec: IOSpec | None, prompter: Prompter) -> Position:
    if spec is not None and spec.instruction and text.strip() in spec.instruction:
        return Position.IN_MESSAGE
    opened = prompter.render([[{"role": "user", "content": "Hi"}]], generation_prompt=True)[0]
    return Position.GENERATION_PROMPT if opened.endswith(text) else Position.AFTER_PROMPT
