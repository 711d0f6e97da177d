"""What a teacher predicts of the answer tokens: computed once, kept, and used in every step.

The teacher is the adapter on every token of the prompt: a full pass, dearer than a student's step by the
length of the prompt. It never changes, so its log-probabilities are kept: in files beside the run, mapped
into memory, where a run that was killed finds them again; else in memory. Its keys and values are not kept
longer than a batch takes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.progress import Progress, silent
from zoo.staging import staged_folder
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore, answer_logits, batches
from zoo.training.tiers import free_host_bytes

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

ON_DEVICE = 2 << 30  # bytes of them that a CUDA device holds, beside the prefixes
_SHARE = 0.5  # of what is free that they may take
TOGETHER = {"cpu": 16, "cuda": 64}  # samples that are predicted at once
PREDICTED = 1024  # of their tokens over the whole vocabulary, on a GPU; 128,000 words are 0.5 MB a token
_FLOAT = 4  # bytes
LOG, IDS = "log_probabilities", "ids"


class Teacher:
    """A teacher's log-probabilities of each sample's answer tokens."""

    def __init__(
        self,
        model: "PeftModel",
        samples: Sequence[Encoded],
        *,
        folder: Path | None = None,
        top_k: int = 0,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: base and adapter, with the teacher's weights until `compute` has returned, and let go.
            samples: whose answers.
            folder: takes the files, and may have those of the same run when it was killed; None keeps the
                numbers in memory.
            top_k: keeps the likeliest tokens of each place and the probability of the rest as one; 0 keeps
                the whole vocabulary.
        """
        self.samples = samples
        self._model = model
        self._folder = folder
        self._device = next(model.parameters()).device
        base: Any = model.get_base_model()
        vocabulary = int(base.get_output_embeddings().weight.shape[0])
        self._top_k = top_k if 0 < top_k < vocabulary else 0
        self._width = self._top_k + 1 if self._top_k else vocabulary
        self._batches = batches(samples, self._device.type, most=together(samples, self._device.type))
        self._parts: list[dict[str, Tensor]] = []
        self._spans: list[tuple[int, int, int]] = []  # of each sample: part, first and last token in it

    @property
    def nbytes(self) -> int:
        """What all of it takes."""
        tokens = sum(len(sample.answer) for sample in self.samples)
        return tokens * self._width * _FLOAT + tokens * self._top_k * 8

    def compute(self, progress: Progress = silent, *, label: str = "teacher") -> None:
        """Runs the teacher over the samples that were not run before.

        Raises:
            UsageError: ZD021, the numbers fit neither on the disk nor in memory.
        """
        self._check_room()
        for number, rows in enumerate(self._batches):
            part = self._stored(number)
            if part is None:
                part = self._kept(number, self._predictions(rows))
            self._parts.append(part)
            begin = 0
            for row in rows:
                end = begin + len(self.samples[row].answer)
                self._spans.append((number, begin, end))
                begin = end
            progress(label, done=rows[-1] + 1, total=len(self.samples), note=self.note())
        del self._model
        if self._device.type == "cuda":
            self._bring_near()

    def note(self) -> str:
        """What is kept, and what was cut, for people."""
        where = "on disk" if self._folder else "in memory"
        kept = f"{self.nbytes / 2**20:,.0f} MiB {where}"
        if not self._top_k:
            return kept
        return f"{kept}; top {self._top_k} tokens and the rest as one ({self.cut:.2%} of the probability)"

    @property
    def cut(self) -> float:
        """Mean probability of the tokens that are kept as one; 0 for the whole vocabulary."""
        if not self._top_k or not self._parts:
            return 0.0
        rest = [float(part[LOG][:, -1].exp().sum()) for part in self._parts]
        return sum(rest) / sum(part[LOG].shape[0] for part in self._parts)

    def divergence(self, rows: Sequence[int], logits: "Tensor") -> "Tensor":
        """The KL divergence of the student's predictions from the teacher's, summed over tokens: a scalar.

        Args:
            rows: samples.
            logits: the student's, float32 `[answer tokens of all rows, vocabulary]`.
        """
        from torch.nn.functional import kl_div

        wanted, ids = self._wanted(rows, logits.device)
        own = logits.log_softmax(dim=-1) if ids is None else coarse(logits, ids)
        return kl_div(own, wanted, reduction="sum", log_target=True)

    def likeliest(self, rows: Sequence[int], device: Any) -> "Tensor":
        """The teacher's likeliest token at each answer token, int64 `[answer tokens of all rows]`."""
        wanted, ids = self._wanted(rows, device)
        return wanted.argmax(dim=-1) if ids is None else ids[:, 0]

    def _wanted(self, rows: Sequence[int], device: Any) -> "tuple[Tensor, Tensor | None]":
        import torch

        found: dict[str, Tensor] = {}
        for name in (LOG, IDS) if self._top_k else (LOG,):
            pieces = [
                self._parts[part][name][begin:end] for part, begin, end in map(self._spans.__getitem__, rows)
            ]
            found[name] = torch.cat([piece.to(device, non_blocking=True) for piece in pieces])
        return found[LOG], found.get(IDS)

    def _predictions(self, rows: Sequence[int]) -> "dict[str, Tensor]":
        import torch

        # a store of its own, which goes with its keys and values
        store = PrefixStore(self._model, [self.samples[row] for row in rows], adapted=True)
        with torch.no_grad():
            logits = torch.cat(answer_logits(store, range(len(rows))))
            if not self._top_k:
                return {LOG: logits.log_softmax(dim=-1).cpu()}
            ids = logits.topk(self._top_k, dim=-1).indices
            return {LOG: coarse(logits, ids).cpu(), IDS: ids.cpu()}

    def _stored(self, number: int) -> "dict[str, Tensor] | None":
        from safetensors import safe_open

        path = self._path(number)
        if path is None or not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping

    def _kept(self, number: int, part: "dict[str, Tensor]") -> "dict[str, Tensor]":
        from safetensors.torch import save_file

        path = self._path(number)
        if path is None:
            return part
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        save_file({name: tensor.contiguous() for name, tensor in part.items()}, fresh)
        fresh.replace(path)  # whole or not at all, whenever the run is killed
        return self._stored(number) or part

    def _path(self, number: int) -> Path | None:
        return self._folder / f"{number:06d}.safetensors" if self._folder else None

    def _bring_near(self) -> None:
        """Moves what a step reads to the device, or to memory from which it copies without waiting."""
        if self.nbytes <= ON_DEVICE:
            self._parts = [{name: one.to(self._device) for name, one in part.items()} for part in self._parts]
        elif self.nbytes <= _SHARE * free_host_bytes():
            self._parts = [{name: one.pin_memory() for name, one in part.items()} for part in self._parts]

    def _check_room(self) -> None:
        """Chooses disk or memory."""
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            there = sum(path.stat().st_size for path in self._folder.glob("*.safetensors"))
            if self.nbytes - there <= _SHARE * shutil.disk_usage(self._folder).free:
                return
        room = _SHARE * free_host_bytes()
        if self.nbytes > room:
            raise UsageError(
                f"the teacher's predictions of {len(self.samples):,} answers take {self.nbytes / 2**30:,.1f} "
                f"GiB, and {room / 2**30:,.1f} GiB may be taken",
                code="ZD021",
                hint="keep the likeliest tokens alone with --teacher-top-k 256, or give less data",
            )
        self._folder = None


def together(samples: "Sequence[Encoded]", device: str) -> int:
    """How many samples' answers are predicted in one pass over the whole vocabulary.

    Args:
        samples: all of them.
        device: type of it.
    """
    most = TOGETHER.get(device, TOGETHER["cpu"])
    if device == "cpu":
        return most
    longest = max((len(sample.answer) for sample in samples), default=1)
    return max(1, min(most, PREDICTED // longest))


def coarse(logits: "Tensor", ids: "Tensor") -> "Tensor":
    """Log-probabilities of some tokens of each place, and of all the others together.

    Their KL divergence is at most that of the whole vocabulary (the data-processing inequality).

    Args:
        logits: float32 `[places, vocabulary]`.
        ids: int64 `[places, k]`, distinct in each place, k below the vocabulary.

    Returns:
        Float32 `[places, k + 1]`, the others last.
    """
    import torch

    whole = logits.logsumexp(dim=-1, keepdim=True)
    others = logits.scatter(-1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([logits.gather(-1, ids), others], dim=-1) - whole


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Makes a folder for one teacher's numbers, or finds that of the same teacher.

    Args:
        folder: of them.
        identity: everything that decides them, as JSON values.

    Raises:
        UsageError: ZD004, an unfinished run with something else left its numbers there.
    """
    path = folder / "teacher.json"
    wanted = json.dumps(dict(identity), sort_keys=True)
    if not path.is_file():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        with staged_folder(folder) as stage:
            (stage / path.name).write_text(wanted, encoding="utf-8")
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    given = json.loads(wanted)
    changed = sorted(key for key in {*there, *given} if there.get(key) != given.get(key))
    if changed:
        raise UsageError(
            f"{folder.parent} holds an unfinished run with another {', '.join(changed)}",
            hint=f"run it with the same options to resume, or remove {folder.parent} to begin anew",
            code="ZD004",
        )
