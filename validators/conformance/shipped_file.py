"""`conformance.safetensors`: prompts, expected numbers and tolerances, for testing any engine without zoo.

One string of metadata under `alora_zoo` (JSON, `ShippedRecord`), and a closed set of tensors; `P` prompts of
at most `T` ids, `Q` questions ("what follows the first `question.length` ids of this prompt?") on `K` tokens:

    prompt.ids       int32   [P, T]   prompt and a forced continuation, filled up with -1
    prompt.length    int32   [P]      ids of that row
    prompt.start     int32   [P]      index of the invocation's first id
    question.prompt  int32   [Q]      index of the prompt
    question.length  int32   [Q]      ids read so far
    token.ids        int32   [Q, K]   the likeliest tokens under the rule
    expected.NAME    float32 [Q, K]   their log-probabilities in nats, for each NAME of `RUNS`
    kv.expected      float32 [P, layers, 2, 2, R]   see `projection`
    kv.tolerance.DTYPE  float32 [layers, 2, 2]      for each dtype of the record's tolerances

An engine may be asked from `prompt.start` + length of the invocation on: it cannot find half of one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from zoo.activation import invocation_start
from zoo.adapter import VECTORS_NAME
from zoo.errors import RefusedError
from zoo.models import Dtype
from zoo.safetensors_header import Header, parse_header
from zoo.specs.document import check
from zoo.specs.lock import BaseLock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METADATA_KEY = "alora_zoo"
MAX_BYTES = 1_000_000
RUNS = ("rule", "early", "late", "base", "plain")
WIDER = 8.0  # times: tolerances are multiples of a few measured differences, which vary with hardware
_MAX_PROMPTS = 64
_AGAIN = "zoo validate PATH --record writes it anew"
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterRecord(_Closed):
    """The adapter that the numbers belong to.

    Attributes:
        config_sha256: of `adapter_config.json`.
        weights_sha256: of `adapter_model.safetensors`.
        invocation: token ids.
    """

    config_sha256: str = _SHA256
    weights_sha256: str = _SHA256
    invocation: list[int] = Field(min_length=1, max_length=4096)


class ProjectionRecord(_Closed):
    """How `kv.expected` was made, see `zoo.validators.conformance.projection`.

    Attributes:
        seed: of the signs.
        count: projections a layer, part and scope.
        how: the rule in words.
    """

    seed: int = Field(ge=0, lt=2**63)
    count: int = Field(ge=1, le=64)
    how: str


class ToleranceRecord(_Closed):
    """What an engine that computes in one dtype may differ by.

    Attributes:
        log_prob: in nats, on any token of any question.
        noise: the difference that was measured, of which `log_prob` is a multiple.
        how: what was measured.
    """

    log_prob: float = Field(gt=0, lt=100, allow_inf_nan=False)
    noise: float = Field(ge=0, lt=100, allow_inf_nan=False)
    how: str


class ShippedRecord(_Closed):
    """The metadata of the file, format 1.

    Attributes:
        adapter: whose numbers these are.
        base: on which base model.
        dtype: of the computation.
        device: `cpu` or `cuda`.
        versions: of the packages that computed it.
        projection: of keys and values.
        tolerances: by dtype; one that could not be measured is left out.
    """

    format: Literal[1] = 1
    adapter: AdapterRecord
    base: BaseLock
    dtype: Literal["float32"] = "float32"
    device: str
    versions: dict[str, str]
    projection: ProjectionRecord
    tolerances: dict[Dtype, ToleranceRecord]


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """The whole file.

    Attributes:
        record: its metadata.
        arrays: its tensors by name; see the module.
    """

    record: ShippedRecord
    arrays: "Mapping[str, NDArray[Any]]"

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return len(self.arrays["prompt.start"])

    def ids(self, prompt: int) -> list[int]:
        """A prompt's ids, its continuation included."""
        found: list[int] = self.arrays["prompt.ids"][prompt, : self.arrays["prompt.length"][prompt]].tolist()
        return found

    def start(self, prompt: int) -> int:
        """The index of a prompt's invocation."""
        return int(self.arrays["prompt.start"][prompt])

    def questions(self, prompt: int) -> "NDArray[np.bool_]":
        """Which of the questions are a prompt's: bool `[Q]`."""
        found: NDArray[np.bool_] = self.arrays["question.prompt"] == prompt
        return found

    def expected(self, run: str, prompt: int) -> "NDArray[np.float32]":
        """A prompt's expected log-probabilities under one of `RUNS`: float32 `[questions, K]`."""
        found: NDArray[np.float32] = self.arrays[f"expected.{run}"][self.questions(prompt)]
        return found


def dump(shipped: Shipped) -> bytes:
    """The file's bytes, the same for the same content.

    All metadata is one string: the library writes several in no fixed order.
    """
    from safetensors.numpy import save

    text = json.dumps(shipped.record.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return save(dict(sorted(shipped.arrays.items())), metadata={METADATA_KEY: text})


def read(path: Path) -> Shipped:
    """Reads the file within bounds.

    Raises:
        RefusedError: ZS001, it is not of format 1 in every name, shape and value.
        SpecError: ZS001, its metadata is not.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return parse(stream.read(MAX_BYTES + 1))


def parse(content: bytes) -> Shipped:
    """Parses the file's bytes; see `read` for what it raises."""
    from safetensors.numpy import load

    if len(content) > MAX_BYTES:
        raise _bad(f"has more than {MAX_BYTES:,} bytes")
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise _bad("is not a safetensors file")
    try:
        begin, size = 8 + length, len(content)
        header = parse_header(content[8:begin], data_begin=begin, size_bytes=size, path=Path(VECTORS_NAME))
    except RefusedError as error:
        raise RefusedError(error.message, code="ZS001", hint=_AGAIN) from None
    record = _record(header)
    _check_shapes(header, record)
    shipped = Shipped(record=record, arrays=load(content))
    _check_values(shipped)
    return shipped


def same_numbers(mine: Shipped, theirs: Shipped) -> bool:
    """Whether two files are two measurements of one adapter: the same but for noise.

    Args:
        mine: measured here; its tolerances in float32 decide.
        theirs: whatever somebody else published. Its own tolerances may be wider, by little.
    """
    import numpy as np

    measured_anew = {"device", "versions", "tolerances"}
    if mine.record.model_dump(exclude=measured_anew) != theirs.record.model_dump(exclude=measured_anew):
        return False
    if mine.arrays.keys() != theirs.arrays.keys():
        return False
    for dtype, tolerance in mine.record.tolerances.items():
        if theirs.record.tolerances[dtype].log_prob > WIDER * tolerance.log_prob:
            return False
    expected = mine.record.tolerances["float32"].log_prob
    kv = mine.arrays["kv.tolerance.float32"][..., None] + np.finfo(np.float32).eps
    for name, values in mine.arrays.items():
        other = theirs.arrays[name]
        if other.shape != values.shape:
            return False
        if name.startswith("kv.tolerance."):
            same = other <= WIDER * values
        else:
            same = np.abs(other - values) <= (
                expected if name.startswith("expected.") else kv if "kv." in name else 0
            )
        if not same.all():
            return False
    return True


def _record(header: Header) -> ShippedRecord:
    if set(header.metadata) != {METADATA_KEY}:
        raise _bad(f"has other metadata than {METADATA_KEY}")
    try:
        document = json.loads(header.metadata[METADATA_KEY])
    except (ValueError, RecursionError):
        raise _bad("has metadata that are not JSON") from None
    record = check(document, ShippedRecord, name=VECTORS_NAME, code="ZS001")
    if "float32" not in record.tolerances:
        raise _bad("states no tolerance for float32")
    return record


def _check_shapes(header: Header, record: ShippedRecord) -> None:
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        info = header.tensors.get(name)
        if info is None or len(info.shape) != dimensions:
            raise _bad(f"lacks {name} with {dimensions} dimensions")
        return info.shape

    prompts, longest = shape("prompt.ids", 2)
    questions, tokens = shape("token.ids", 2)
    layers = shape("kv.expected", 5)[1]
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "prompt.ids": ("I32", (prompts, longest)),
        "prompt.length": ("I32", (prompts,)),
        "prompt.start": ("I32", (prompts,)),
        "question.prompt": ("I32", (questions,)),
        "question.length": ("I32", (questions,)),
        "token.ids": ("I32", (questions, tokens)),
        "kv.expected": ("F32", (prompts, layers, 2, 2, record.projection.count)),
        **{f"expected.{run}": ("F32", (questions, tokens)) for run in RUNS},
        **{f"kv.tolerance.{dtype}": ("F32", (layers, 2, 2)) for dtype in record.tolerances},
    }
    if not (0 < prompts <= _MAX_PROMPTS and longest and questions and tokens):
        raise _bad("holds no question, or too many prompts")
    if other := sorted(header.tensors.keys() ^ wanted.keys()):
        raise _bad(f"has or lacks {other[0][:60]}, against its format")
    for name, (dtype, dimensions) in wanted.items():
        info = header.tensors[name]
        if (info.dtype, info.shape) != (dtype, dimensions):
            raise _bad(f"has {name} as {info.dtype} {list(info.shape)}, not {dtype} {list(dimensions)}")


def _check_values(shipped: Shipped) -> None:
    import numpy as np

    arrays = shipped.arrays
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise _bad(f"has something in {name} that is not finite")
        if name.startswith("kv.tolerance.") and (values < 0).any():
            raise _bad(f"has a negative number in {name}")
    if (arrays["token.ids"] < 0).any():
        raise _bad("has a negative token id")
    for prompt in range(shipped.prompts):
        length = int(arrays["prompt.length"][prompt])
        row = arrays["prompt.ids"][prompt]
        if not 0 < length <= len(row) or (row[:length] < 0).any() or (row[length:] != -1).any():
            raise _bad(f"has a row of ids of another length than it says, prompt {prompt}")
        if invocation_start(row[:length].tolist(), shipped.record.adapter.invocation) != shipped.start(
            prompt
        ):
            raise _bad(f"has another start than the last occurrence of the invocation, prompt {prompt}")
        asked = arrays["question.length"][shipped.questions(prompt)]
        if not len(asked) or (asked < 1).any() or (asked > length).any() or (np.diff(asked) <= 0).any():
            raise _bad(f"has no questions in ascending order for prompt {prompt}")
    if not (arrays["question.prompt"].min() >= 0 and arrays["question.prompt"].max() < shipped.prompts):
        raise _bad("has a question on a prompt that it does not hold")


def _bad(what: str) -> RefusedError:
    return RefusedError(f"{VECTORS_NAME} {what}", code="ZS001", hint=_AGAIN)
