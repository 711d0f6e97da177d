"""Writing `conformance.safetensors`: the reference's numbers on a few prompts, with tolerances per dtype.

Nothing of PEFT goes into it. The tolerances come from the base model: in float32 from what chunking alone
does to it, in half precision from what base and reference change when they run in that dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.activation import invocation_start
from zoo.adapter import AdapterRepo
from zoo.errors import BaseMissingError, UndecidedError
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel, Dtype, load_model
from zoo.progress import Progress, silent
from zoo.prompts import Prompt
from zoo.provenance import package_versions, sha256_file
from zoo.validators.conformance.engines.expectation import BASE, EARLY, LATE, PLAIN, RULE, candidates
from zoo.validators.conformance.kv import empty_cache, prefix_kv
from zoo.validators.conformance.projection import COUNT, HOW, PARTS, SCOPES, SEED, project, sizes
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.rig import Rig
from zoo.validators.conformance.shipped_file import (
    AdapterRecord,
    ProjectionRecord,
    Shipped,
    ShippedRecord,
    ToleranceRecord,
)
from zoo.validators.conformance.stepping import log_probs
from zoo.validators.conformance.tolerance import MULTIPLE_FLOAT32, PARITY_FLOAT32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import DynamicCache

STAGE = "conformance vectors"
PROMPTS = 3
SHORT, LONGEST = 256, 1024  # tokens: of the prompts that are taken first, and of any
FORCED = 4  # tokens of continuation
TOKENS = 32  # log-probabilities a question
FIRST, LAST = 8, 16  # questions a prompt, when its suffix is longer
HALF: tuple[Dtype, ...] = ("bfloat16", "float16")
OF_WORST = 2.0  # times the largest of some thousand differences, whose spread is three times smaller
HALF_PROMPTS = 2  # the shortest: kernels for half precision are slow on a CPU
ON_CPU = 2_000_000_000  # parameters up to which half precision is also run on a CPU
PACKAGES = ("alora-zoo", "torch", "transformers", "safetensors")
RUN_NAMES = {"rule": RULE, "early": EARLY, "late": LATE, "base": BASE, "plain": PLAIN}
Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt with its forced continuation.

    Attributes:
        ids: of both.
        start: index of the invocation's first id.
        asked: how many ids have been read at each question, ascending.
    """

    ids: tuple[int, ...]
    start: int
    asked: tuple[int, ...]


@dataclass(kw_only=True)
class Writer:
    """Computes the numbers of one adapter.

    Attributes:
        repo: the adapter.
        base: its base model.
        rig: the base in float32.
        invocation: token ids.
        prompts: to choose from, the release's own first.
        progress: told about each prompt and dtype.
    """

    repo: AdapterRepo
    base: BaseModel
    rig: Rig
    invocation: tuple[int, ...]
    prompts: Sequence[Prompt]
    progress: Progress = field(default=silent)

    def measure(self) -> Shipped:
        """The file's content; the same on the same machine.

        Raises:
            UndecidedError: no prompt is short enough, or a number is not finite.
            RefusedError: ZR001, the adapter's files do not fit the base.
        """
        import numpy as np

        reference = Reference.from_folder(self.rig.model, self.repo)
        rows = []
        for index, prompt in enumerate(chosen := choose(self.prompts)):
            self.progress(STAGE, done=index, total=len(chosen), note=f"{len(prompt.ids)} tokens")
            rows.append(self._row(reference, prompt))
        arrays = _prompt_arrays(rows)
        found = [_expected(reference, row, self.invocation) for row in rows]
        for name in ("token.ids", *(f"expected.{run}" for run in RUN_NAMES)):
            arrays[name] = np.concatenate([one[name] for one in found])
        arrays["kv.expected"] = np.stack([one.pop("kv.expected") for one in found]).astype(np.float32)
        tolerances = self._float32(rows, arrays) | self._half(rows, arrays)
        if wrong := next((name for name, one in arrays.items() if not np.isfinite(one).all()), ""):
            raise UndecidedError(f"{wrong} holds a number that is not finite: no vectors can be written")
        self.progress(STAGE, done=len(chosen), total=len(chosen))
        return Shipped(record=self._record(tolerances), arrays=arrays)

    def _row(self, reference: Reference, prompt: Prompt) -> Row:
        """Forces the reference's own greedy tokens, up to one that would invoke the adapter again."""
        ids, cache = prompt.ids, empty_cache()
        mask = reference.masks([ids], self.invocation)
        logits = reference.logits(self.rig.tensor([ids]), mask, cache=cache, logits_to_keep=1)
        for _ in range(FORCED):
            longer = (*ids, int(logits[0, -1].argmax()))
            if invocation_start(longer, self.invocation) != prompt.start:
                break
            ids = longer
            step = self.rig.tensor([ids[-1:]])
            logits = reference.logits(step, step.new_ones(step.shape).bool(), cache=cache)
        asked = list(range(max(1, prompt.start), len(ids) + 1))
        if len(asked) > FIRST + LAST:
            asked = [*asked[:FIRST], *asked[-LAST:]]
        return Row(ids=ids, start=prompt.start, asked=tuple(asked))

    def _float32(self, rows: Sequence[Row], arrays: Arrays) -> dict[Dtype, ToleranceRecord]:
        """Tolerances of float32, from the base's chunkings; the KV's go into `arrays`."""
        import numpy as np

        eps = float(np.finfo(np.float32).eps)
        noise, gaps = eps * float(np.abs(arrays["expected.base"]).max()), []
        for index, row in enumerate(rows):
            if not row.start:
                continue
            made = self.rig.prefilled(row.ids[: row.start])
            base = log_probs(self.rig.after(made, row.ids[row.start :], rows=range(len(made.ways))))
            mine = (arrays["question.prompt"] == index) & (arrays["question.length"] > row.start)
            places = self.rig.tensor([arrays["question.length"][mine] - 1 - row.start])[0, :, None]
            base = base[:, places, self.rig.tensor(arrays["token.ids"][mine])]
            noise = max(noise, float((base - base[:1]).abs().max()))
            for way in range(len(made.ways)):
                layers = [(keys[way : way + 1], values[way : way + 1]) for keys, values in made.layers]
                gaps.append(np.abs(project(layers) - arrays["kv.expected"][index]))
        arrays["kv.tolerance.float32"] = self._kv_tolerance(gaps, MULTIPLE_FLOAT32, eps, rows)
        how = f"{MULTIPLE_FLOAT32:g} times what chunking the prefix changes in the base's log-probabilities"
        allowed = max(PARITY_FLOAT32, MULTIPLE_FLOAT32 * noise)
        return {
            "float32": ToleranceRecord(
                log_prob=allowed, noise=noise, how=f"{how}, at least {PARITY_FLOAT32:g}"
            )
        }

    def _half(self, rows: Sequence[Row], arrays: Arrays) -> dict[Dtype, ToleranceRecord]:
        """Tolerances of half precision, each from running base and reference in it."""
        import torch

        model = self.rig.model
        if model.device.type == "cpu" and sum(one.numel() for one in model.parameters()) > ON_CPU:
            return {}
        found: dict[Dtype, ToleranceRecord] = {}
        for done, dtype in enumerate(HALF):
            self.progress(STAGE, done=done, total=len(HALF), note=f"tolerance of {dtype}")
            try:
                found |= self._in_dtype(dtype, rows, arrays)
            except (torch.OutOfMemoryError, BaseMissingError, RuntimeError, MemoryError):
                continue  # not every kernel exists in every dtype: the file then says nothing about this one
        return found

    def _in_dtype(self, dtype: Dtype, rows: Sequence[Row], arrays: Arrays) -> dict[Dtype, ToleranceRecord]:
        import numpy as np
        import torch

        model = load_model(self.base, dtype=dtype, device=str(self.rig.model.device))
        reference, noise, gaps = Reference.from_folder(model, self.repo), 0.0, []
        for row in sorted(rows, key=lambda row: (not row.start, len(row.ids)))[:HALF_PROMPTS]:
            index, cache = rows.index(row), empty_cache()
            mine, masks = arrays["question.prompt"] == index, candidates(row.ids, self.invocation)
            for run, kept in (("rule", None), ("base", cache)):
                got = _gathered(reference, row, masks[RUN_NAMES[run]], arrays["token.ids"][mine], kept)
                noise = max(noise, float(np.abs(got - arrays[f"expected.{run}"][mine]).max()))
            if row.start:
                gaps.append(np.abs(project(prefix_kv(cache, row.start)) - arrays["kv.expected"][index]))
        if not np.isfinite([noise, *(float(gap.max()) for gap in gaps)]).all():
            return {}
        eps = torch.finfo(getattr(torch, dtype)).eps
        arrays[f"kv.tolerance.{dtype}"] = self._kv_tolerance(gaps, OF_WORST, eps, rows)
        how = (
            f"{OF_WORST:g} times what running in {dtype} on {model.device.type} changes in base and reference"
        )
        return {dtype: ToleranceRecord(log_prob=OF_WORST * max(noise, eps), noise=noise, how=how)}

    def _kv_tolerance(
        self, gaps: "Sequence[NDArray[np.float64]]", multiple: float, eps: float, rows: Sequence[Row]
    ) -> "NDArray[np.float32]":
        """Tolerances `[layers, parts, scopes]` from distances of projections, each of the shape of `project`.

        A layer has few projections, and the largest of few says little: the distances are taken relative to
        the size of the layer's keys or values, and the largest of all layers counts.
        """
        import numpy as np

        layers = int(self.rig.model.config.get_text_config().num_hidden_layers)
        if not gaps:
            return np.zeros((layers, len(PARTS), len(SCOPES)), dtype=np.float32)
        made = [self.rig.prefilled(row.ids[: row.start]) for row in rows if row.start]
        size = np.stack([sizes([(k[:1], v[:1]) for k, v in one.layers]) for one in made]).max(axis=0)[
            ..., None
        ]
        worst = np.max([gap.max(axis=-1) / size for gap in gaps], axis=(0, 1))
        found: NDArray[np.float32] = (multiple * np.maximum(worst, eps) * size).astype(np.float32)
        return found

    def _record(self, tolerances: dict[Dtype, ToleranceRecord]) -> ShippedRecord:
        return ShippedRecord(
            adapter=adapter_record(self.repo),
            base=self.base.lock(),
            device=self.rig.model.device.type,
            versions=package_versions(PACKAGES),
            projection=ProjectionRecord(seed=SEED, count=COUNT, how=HOW),
            tolerances=tolerances,
        )


def adapter_record(repo: AdapterRepo) -> AdapterRecord:
    """What names the adapter of a folder in the file."""
    return AdapterRecord(
        config_sha256=sha256_file(repo.root / CONFIG_NAME),
        weights_sha256=sha256_file(repo.weights_path),
        invocation=list(repo.config.alora_invocation_tokens or ()),
    )


def choose(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first short prompts, without repetitions, and the shortest of the rest.

    Raises:
        UndecidedError: none is short enough.
    """
    unique = list({prompt.ids: prompt for prompt in prompts}.values())
    short = [one for one in unique if len(one.ids) <= SHORT] or [
        one for one in unique if len(one.ids) <= LONGEST
    ]
    if not short:
        raise UndecidedError(
            f"none of the {len(unique)} prompts has at most {LONGEST} tokens: no vectors can be written",
            hint="add a short sample to zoo.yaml",
        )
    return [*short[: PROMPTS - 1], *sorted(short[PROMPTS - 1 :], key=lambda prompt: len(prompt.ids))[:1]]


def _prompt_arrays(rows: Sequence[Row]) -> Arrays:
    import numpy as np

    ids = np.full((len(rows), max(len(row.ids) for row in rows)), -1, dtype=np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
    return {
        "prompt.ids": ids,
        "prompt.length": np.array([len(row.ids) for row in rows], dtype=np.int32),
        "prompt.start": np.array([row.start for row in rows], dtype=np.int32),
        "question.prompt": np.repeat(np.arange(len(rows), dtype=np.int32), [len(row.asked) for row in rows]),
        "question.length": np.array([length for row in rows for length in row.asked], dtype=np.int32),
    }


def _expected(reference: Reference, row: Row, invocation: tuple[int, ...]) -> Arrays:
    """The likeliest tokens under the rule, and their log-probabilities under every mask."""
    masks, cache = candidates(row.ids, invocation), empty_cache()
    rule = _answers(reference, row, masks[RULE])
    # sorted in a stable way: which of two equal tokens comes first must not change from run to run
    tokens = rule.sort(dim=-1, descending=True, stable=True).indices[:, :TOKENS].numpy()
    found: Arrays = {"token.ids": tokens.astype("int32")}
    for run, name in RUN_NAMES.items():
        kept = cache if run == "base" else None
        found[f"expected.{run}"] = _gathered(reference, row, masks[name], tokens, kept)
    found["kv.expected"] = project(prefix_kv(cache, row.start))
    return found


def _gathered(
    reference: Reference,
    row: Row,
    mask: Sequence[bool],
    tokens: "NDArray[Any]",
    cache: "DynamicCache | None" = None,
) -> "NDArray[np.float32]":
    """Log-probabilities of given tokens `[questions, K]` under a mask, float32 of that shape."""
    import numpy as np

    answers = _answers(reference, row, mask, cache).numpy()
    found: NDArray[np.float32] = np.take_along_axis(answers, tokens.astype(np.int64), axis=1)
    return found


def _answers(
    reference: Reference, row: Row, mask: Sequence[bool], cache: "DynamicCache | None" = None
) -> "Tensor":
    """What follows each question's ids, in one call: log-probabilities `[questions, vocabulary]`, on CPU."""
    import torch

    device = reference.model.device
    ids = torch.tensor([list(row.ids)], device=device)
    active = torch.tensor([list(mask)], device=device)
    first = row.asked[0] - 1
    found = reference.log_probs(ids, active, cache=cache, logits_to_keep=len(row.ids) - first)[0]
    return found[[length - 1 - first for length in row.asked]].float().cpu()
