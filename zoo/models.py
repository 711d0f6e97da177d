"""Base models: from the Hub at a commit, from a local folder, or the embedded default.

Finding a base needs no torch: module names and shapes come from its safetensors headers, the prompt from
its tokenizer and template files. Only `load_model` loads weights.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import embedded
from zoo.errors import BaseMissingError, NotFoundError, SpecError, UndecidedError, UsageError
from zoo.provenance import folder_digest, sha256_bytes, sha256_file
from zoo.safetensors_header import TensorInfo, read_header
from zoo.specs.licences import family_license, stated_license
from zoo.threads import settle

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zoo.specs.lock import BaseLock
    from zoo.specs.release import BaseRef

Dtype = Literal["float32", "bfloat16", "float16"]
DEFAULT = embedded.NAME
CONV1D_TYPES = ("gpt2", "openai-gpt", "imagegpt")


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """One base model's folder, at one exact state.

    Attributes:
        id: Hub id `org/name` where known, else the folder's name.
        revision: commit hash; empty when the weights did not come from the Hub.
        folder: an ordinary Hugging Face model folder.
        embedded: the embedded base's name, else empty.
    """

    id: str
    revision: str
    folder: Path
    embedded: str = ""

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            SpecError: it is not a JSON object.
        """
        content = self._json("config.json")
        if content is None:
            raise SpecError(f"{self.folder} holds no config.json", hint="give a Hugging Face model folder")
        return content

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every weight of the checkpoint by name, from the headers of its safetensors files.

        Raises:
            BaseMissingError: the folder holds no safetensors weights.
        """
        found: dict[str, TensorInfo] = {}
        for path in self.weight_files:
            found.update(read_header(path).tensors)
        return found

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files of the checkpoint, sorted.

        Raises:
            BaseMissingError: there is none.
        """
        found = sorted(self.folder.glob("model*.safetensors"))
        if not found:
            raise BaseMissingError(
                f"the base model {self.id} has no safetensors weights in {self.folder}",
                hint="save it with save_pretrained, or name another --base",
            )
        return found

    @cached_property
    def linears(self) -> Mapping[str, tuple[int, int]]:
        """`(out_features, in_features)` of every module with a two-dimensional weight, by module path.

        A GPT-2 `Conv1D` stores its weight transposed; it is turned round here. Embeddings are left out.
        """
        shapes: dict[str, tuple[int, int]] = {}
        for name, info in self.tensors.items():
            if not name.endswith(".weight") or len(info.shape) != 2 or _is_embedding(name):
                continue
            rows, columns = info.shape
            shapes[name.removesuffix(".weight")] = (columns, rows) if self.turns(name) else (rows, columns)
        return shapes

    def turns(self, name: str) -> bool:
        """Whether a linear weight of this name is stored `[in, out]`: GPT-2's `Conv1D` does."""
        return self.config.get("model_type") in CONV1D_TYPES and not name.startswith("lm_head")

    @property
    def vocabulary(self) -> int:
        """Size of the input embedding: ids at or above it do not exist."""
        size = self.config.get("vocab_size") or self.config.get("text_config", {}).get("vocab_size")
        if not isinstance(size, int):
            raise SpecError(f"{self.folder / 'config.json'} states no vocab_size")
        return size

    @cached_property
    def chat_template(self) -> str:
        """The chat template's jinja2 source; empty when the base has none."""
        separate = self.folder / "chat_template.jinja"
        if separate.is_file():
            return separate.read_text(encoding="utf-8")
        template = self.tokenizer_config.get("chat_template", "")
        return template if isinstance(template, str) else ""

    @cached_property
    def tokenizer_config(self) -> Mapping[str, Any]:
        """`tokenizer_config.json`, empty when there is none."""
        return self._json("tokenizer_config.json") or {}

    @cached_property
    def license(self) -> str:
        """The licence that the base's card states, in the Hub's spelling; empty where none is known."""
        card = self.folder / "README.md"
        return (stated_license(card) if card.is_file() else "") or family_license(self.id)

    @property
    def tokenizer_path(self) -> Path:
        """`tokenizer.json`.

        Raises:
            BaseMissingError: there is none.
        """
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise BaseMissingError(
                f"the base model {self.id} has no tokenizer.json in {self.folder}",
                hint="write one with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
            )
        return path

    def reference(self) -> "BaseRef":
        """What `zoo.yaml` says about this base."""
        from zoo.specs.release import BaseRef

        return BaseRef(id=self.id, revision=self.revision or None, embedded=self.embedded or None)

    def lock(self) -> "BaseLock":
        """What `zoo.lock.json` says about this base; hashes the weights when no commit names them."""
        from zoo.specs.lock import BaseLock

        return BaseLock(
            id=self.id,
            revision=self.revision or None,
            weights_sha256=None if self.revision else self.weights_sha256,
            source=embedded.SOURCE if self.embedded else "",
            tokenizer_sha256=sha256_file(self.tokenizer_path),
            chat_template_sha256=sha256_bytes(self.chat_template.encode()),
            tokenizer_config_sha256=self.tokenizer_config_sha256,
        )

    @property
    def tokenizer_config_sha256(self) -> str | None:
        """Digest of `tokenizer_config.json`; None when there is none."""
        path = self.folder / "tokenizer_config.json"
        return sha256_file(path) if path.is_file() else None

    @cached_property
    def weights_sha256(self) -> str:
        """One digest over the weight files."""
        if self.embedded:
            return embedded.recorded_digest(self.folder)
        return folder_digest({path.name: sha256_file(path) for path in self.weight_files})

    def _json(self, name: str) -> Mapping[str, Any] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise SpecError(f"{path} is not valid JSON") from None
        if not isinstance(content, dict):
            raise SpecError(f"{path} is not a JSON object")
        return content


def resolve(spec: str, *, revision: str = "", weights: bool = True) -> BaseModel:
    """Finds a base model.

    Args:
        spec: `org/name` or `org/name@revision` on the Hub, a local folder, or an embedded base's name.
        revision: used when `spec` has none of its own; the Hub's default branch when both are empty.
        weights: whether a base on the Hub is fetched with its weights, or its configuration only.

    Raises:
        NotFoundError: nothing of that name.
        BaseMissingError: it cannot be had here: no network, no access, or a package is missing.
    """
    if spec == embedded.NAME:
        return BaseModel(id=embedded.HUB_ID, revision="", folder=embedded.folder(), embedded=embedded.NAME)
    path = Path(spec).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise NotFoundError(
                f"{path} is not a model folder: it holds no config.json",
                hint="give the folder that save_pretrained wrote",
            )
        return BaseModel(id=_declared_id(path), revision="", folder=path.resolve())
    return _on_hub(spec, revision=revision, weights=weights)


def resolve_named(name: str, *, revision: str = "", weights: bool = True) -> BaseModel:
    """Finds the base that an adapter names; a folder only by its whole path.

    What lies beside an adapter, or in the working folder, its author may have put there: `../base`, or a
    folder called as somebody's model. A whole path is one of this machine's own, of whoever trained here.

    Args:
        name: as the adapter's config or `zoo.yaml` has it.
        revision: a commit; the Hub's default branch when empty.
        weights: see `resolve`.

    Raises:
        NotFoundError: it is no name on the Hub.
        BaseMissingError: see `resolve`.
    """
    if name == embedded.NAME or (Path(name).is_absolute() and Path(name).is_dir()):
        return resolve(name)
    return _on_hub(name.partition("@")[0], revision=revision, weights=weights)


def _on_hub(spec: str, *, revision: str, weights: bool) -> BaseModel:
    if spec.count("/") != 1 or spec.startswith((".", "/", "~")):
        raise NotFoundError(
            f"no base model {spec[:200]!r}: not org/name on the Hub, not an embedded base",
            hint=f"--base takes a folder too; the embedded base is called {embedded.NAME}",
        )
    from zoo import hub

    name, _, wanted = spec.partition("@")
    try:
        commit, folder = hub.download_base(name, wanted or revision, weights=weights)
    except UndecidedError as error:
        if name == embedded.HUB_ID:
            error.hint = f"an embedded copy of its weights needs no Hub: --base {embedded.NAME}"
        raise
    return BaseModel(id=name, revision=commit, folder=folder)


def resolve_reference(reference: "BaseRef") -> BaseModel:
    """Finds the base that a `zoo.yaml` names.

    Raises:
        NotFoundError: it names none on the Hub.
        BaseMissingError: see `resolve`.
    """
    if reference.embedded:
        return resolve_named(reference.embedded)
    return resolve_named(reference.id, revision=reference.revision or "")


def load_model(
    base: BaseModel,
    *,
    dtype: Dtype = "float32",
    device: str = "cpu",
    attention: str = "",
    quantisation: Any = None,
) -> "PreTrainedModel":
    """Loads the base model's weights, in evaluation mode and frozen.

    Args:
        base: from `resolve`.
        dtype: of the weights.
        device: a torch device string.
        attention: transformers' attention implementation, such as `eager`; empty takes its default.
        quantisation: transformers' quantisation config, or None; see `zoo.training.quantised`.

    Raises:
        UsageError: torch knows no such device.
        UndecidedError: the device is not here.
        BaseMissingError: transformers cannot load the folder.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    _check_device(device)
    if device == "cpu":
        settle()
    more = {"quantization_config": quantisation, "device_map": {"": device}} if quantisation else {}
    try:
        with _without_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(
                base.folder,
                dtype=getattr(torch, dtype),
                attn_implementation=attention or None,
                trust_remote_code=False,
                local_files_only=True,
                **more,
            )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BaseMissingError(f"the base model {base.id} does not load: {reason}") from error
    model.requires_grad_(False)
    loaded: PreTrainedModel = (model if quantisation else model.to(device)).eval()
    return loaded


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UsageError(f"torch knows no device {device!r}", hint="--device cpu, cuda or cuda:1") from None
    try:
        torch.zeros(1, device=device).item()  # a device that holds no values, such as meta, fails as well
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise UndecidedError(
            f"there is no usable {kind} device here as {device!r}: {reason}", hint="--device cpu"
        ) from error


@contextmanager
def _without_bar() -> Iterator[None]:
    """Keeps transformers' own progress bar off stderr, where ours may be."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "wte.", "wpe.", "word_embeddings", "embed_in"))


def _declared_id(folder: Path) -> str:
    """The Hub id a local folder says it is a copy of, else the folder's name."""
    try:
        declared = json.loads((folder / "config.json").read_bytes()).get("_name_or_path", "")
    except (ValueError, AttributeError, RecursionError):
        declared = ""
    return declared if isinstance(declared, str) and declared.count("/") == 1 else folder.resolve().name
