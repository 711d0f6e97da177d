"""The next state of a published library: changes that are in order, and regressions of five kinds."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.ci.shelf import Shelf, Task, turn
from tests.validators.changes import WEIGHTS, Tensors, both, config, file, relock, spec, weights

Make = Callable[[Shelf, Task, Path], None]  # changes a copy of the published release in place
PATCH, MAJOR = "1.0.1", "2.0.0"
HALVINGS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """One change.

    Attributes:
        make: makes it.
        kind: of regression; empty is a change that is in order.
        code: which check must see it.
        contract: only an adapter with an `io.yaml` can have it.
        unpublished: there is no version before it.
    """

    make: Make
    kind: str = ""
    code: str = ""
    contract: bool = False
    unpublished: bool = False


def edit(*mutations: Callable[..., object], version: str = PATCH) -> Make:
    """Edits of the files, under a version."""

    def make(shelf: Shelf, _: Task, folder: Path) -> None:
        both(*mutations, spec(version=version))(folder, shelf.base)  # type: ignore[arg-type]
        relock(folder, shelf.base)

    return make


def taught(version: str, **how: object) -> Make:
    """Trained anew, with what was then measured in its lock."""

    def make(shelf: Shelf, task: Task, folder: Path) -> None:
        shutil.rmtree(folder)
        shelf.teach(task, folder, **how)  # type: ignore[arg-type]
        spec(version=version)(folder, shelf.base)
        relock(folder, shelf.base)

    return make


def swapped(**how: object) -> Make:
    """Other weights under the published lock's claims: only who asks can tell."""

    def make(shelf: Shelf, task: Task, folder: Path) -> None:
        other = shelf.teach(task, folder.with_name(f"{folder.name}-other"), **how)  # type: ignore[arg-type]
        shutil.copyfile(other / WEIGHTS, folder / WEIGHTS)
        shutil.rmtree(other)
        spec(version=PATCH)(folder, shelf.base)
        relock(folder, shelf.base)

    return make


def noise(share: float) -> Callable[[Tensors], None]:
    """Random numbers on B, as large as a share of its own."""

    def change(tensors: Tensors) -> None:
        generator = torch.Generator().manual_seed(7)
        for name in sorted(tensors):
            if "lora_B" in name:
                tensor = tensors[name]
                tensors[name] = tensor + share * tensor.std() * torch.randn(tensor.shape, generator=generator)

    return change


def weakened(loss: float, *, beyond: bool) -> Make:
    """Noise that costs about so many good answers, on prompts that the gate does not ask.

    Args:
        loss: of the share of answers that are right and of the form that they should have.
        beyond: the least noise found that costs so much; else the most that costs no more.
    """

    def make(shelf: Shelf, task: Task, folder: Path) -> None:
        start, good = (folder / WEIGHTS).read_bytes(), shelf.good(task, folder)
        below, above = 0.0, 4.0  # a noise that costs less, and one that costs more
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            (folder / WEIGHTS).write_bytes(start)
            weights(noise(middle))(folder, shelf.base)
            if good - shelf.good(task, folder) > loss:
                above = middle
            else:
                below = middle
        (folder / WEIGHTS).write_bytes(start)
        edit(weights(noise(above if beyond else below)))(shelf, task, folder)

    return make


def _unchanged(shelf: Shelf, task: Task, folder: Path) -> None:
    """As published."""


def _turned(shelf: Shelf, task: Task, folder: Path) -> None:
    turn(folder, shelf.base, seed=99)
    edit()(shelf, task, folder)


def _io(old: str, new: str) -> Callable[..., None]:
    def mutate(folder: Path, _: object) -> None:
        text = (folder / "io.yaml").read_text()
        assert old in text
        (folder / "io.yaml").write_text(text.replace(old, new))

    return mutate


TWICE = "<|im_start|>check<|im_start|>"
REGRESSIONS: Mapping[str, Seeded] = {
    "result renamed": Seeded(
        kind="contract", code="ZG009", contract=True, make=edit(_io("verdict", "said"))
    ),
    "an answer that callers do not know": Seeded(
        kind="contract", code="ZG009", contract=True, make=edit(_io('"no"]', '"no", "maybe"]'))
    ),
    "ids of another text": Seeded(
        kind="contract", code="ZI003", make=edit(config(alora_invocation_tokens=[1, 40, 41]))
    ),
    "hardly trained": Seeded(kind="quality", code="ZG007", make=swapped(steps=4)),
    "labels the wrong way round": Seeded(
        kind="quality", code="ZG008", make=swapped(flipped=True, steps=90)
    ),
    "damaged weights": Seeded(kind="quality", code="ZG008", make=weakened(0.2, beyond=True)),
    "a plain LoRA": Seeded(kind="cache", code="ZI001", make=edit(config(alora_invocation_tokens=None))),
    "biases": Seeded(kind="cache", code="ZC003", make=edit(config(bias="all"))),
    "trained tokens": Seeded(kind="cache", code="ZC004", make=edit(config(trainable_token_indices=[5]))),
    "a licence that is not allowed": Seeded(
        kind="licence", code="ZG010", make=edit(spec(license="cc-by-nc-4.0"))
    ),
    "another licence in a patch": Seeded(kind="licence", code="ZG010", make=edit(spec(license="mit"))),
    "a licence that no version allows": Seeded(
        kind="licence", code="ZG010", make=edit(spec(license="gpl-3.0"), version=MAJOR)
    ),
    "no task type": Seeded(kind="engine", code="ZC002", make=edit(config(task_type=None))),
    "an invocation that llama-server misses": Seeded(
        kind="engine", code="ZG011", make=taught(MAJOR, invocation=TWICE, seed=50)
    ),
    "a config that GGUF cannot say": Seeded(
        kind="engine", code="ZG011", make=edit(config(rank_pattern={"q_proj": 8}))
    ),
}  # fmt: skip
IN_ORDER: Mapping[str, Seeded] = {
    **{f"unchanged {number}": Seeded(make=_unchanged) for number in range(1, 9)},
    **{f"another basis {number}": Seeded(make=_turned) for number in range(1, 6)},
    **{f"trained anew {number}": Seeded(make=taught(PATCH, seed=100 + number)) for number in (1, 2)},
    **{f"a little noise {number}": Seeded(make=weakened(0.02, beyond=False)) for number in (1, 2, 3)},
    **{f"notes {number}": Seeded(make=edit(file("NOTES.md", b"Better notes.\n"))) for number in (1, 2, 3)},
    "result renamed, and said so": Seeded(
        contract=True, make=edit(_io("verdict", "said"), version=MAJOR)
    ),
    "another licence, and said so": Seeded(make=edit(spec(license="mit"), version=MAJOR)),
    "another invocation, and said so": Seeded(
        make=taught(MAJOR, invocation="<|im_start|>context\n", seed=60)
    ),
    "the first version": Seeded(make=_unchanged, unpublished=True),
}  # fmt: skip


def assign(shelf: Shelf, changes: Mapping[str, Seeded]) -> dict[str, str]:
    """Which adapter gets which change, by name: first those that want a contract, the rest in order."""
    free = list(shelf.names)
    found: dict[str, str] = {}
    for what in sorted(changes, key=lambda what: not changes[what].contract):
        wants = changes[what].contract
        name = next(one for one in free if shelf.tasks[one].contract or not wants)
        free.remove(name)
        found[name] = what
    return found


def change_library(shelf: Shelf, library: Path, changes: Mapping[str, Seeded]) -> dict[str, str]:
    """Makes the library's next state, one folder an adapter; says what became of each."""
    assigned = assign(shelf, changes)
    library.mkdir()
    for name in sorted(assigned):
        folder = Path(shutil.copytree(shelf.published(name), library / name))
        changes[assigned[name]].make(shelf, shelf.tasks[name], folder)
    return assigned
