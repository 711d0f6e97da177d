"""Answers a flow's steps with real models: one base, loaded once, whose cache all steps share."""

from collections.abc import Sequence
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import UsageError
from zoo.flows.execution import Answered, Call
from zoo.flows.flow import Flow
from zoo.inference.prefix import Prefix
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Answer, Intrinsic
from zoo.intrinsic.intrinsic import find_base as named_base
from zoo.intrinsic.request import make_request
from zoo.intrinsic.speaking import Speaker
from zoo.io import rewrite
from zoo.models import BaseModel, Dtype, load_model, resolve
from zoo.specs.flow import BASE, Step
from zoo.specs.io import IOSpec

MAX_NEW_TOKENS = 256  # of the base model's answer, unless the flow says


class CountingBase(SharedBase):
    """A shared base that says how much of its prefixes it had already.

    Attributes:
        reused: tokens of the prefixes asked for since this was last set to 0 whose KV was held already.
    """

    reused = 0

    def prefill(self, ids: Sequence[int]) -> Prefix:
        """As `SharedBase.prefill`, counted."""
        held = self.prefix_cache.longest(tuple(ids)) if ids else None
        self.reused += len(held) if held else 0
        return super().prefill(ids)


class Models:
    """Answers steps; an adapter is loaded when it is first called.

    Attributes:
        base: the base model of all steps.
    """

    def __init__(self, flow: Flow, shared: CountingBase) -> None:
        """Takes a loaded base; `open` loads one."""
        self.base = shared.base
        self._flow, self._shared, self._speaker = flow, shared, Speaker(shared)
        self._intrinsics: dict[Path, Intrinsic] = {}

    @classmethod
    def open(
        cls, flow: Flow, *, base: str = "", device: str = "cpu", dtype: Dtype = "float32", attention: str = ""
    ) -> "Models":
        """Finds and loads the base model.

        Args:
            flow: checked.
            base: as `--base`; else the flow's own, else the one that its first adapter names.
            device: a torch device.
            dtype: of the base's weights.
            attention: transformers' attention implementation; empty takes its default.

        Raises:
            UsageError: ZO306, nothing names a base, or the adapters name another one.
            BaseMissingError: it cannot be had.
        """
        found = find_base(flow, base)
        model = load_model(found, dtype=dtype, device=device, attention=attention)
        return cls(flow, CountingBase(found, model))

    def __call__(self, step: Step, call: Call) -> Answered:
        """Answers a step.

        Raises:
            ZooError: see `zoo.intrinsic.Intrinsic.ask`.
        """
        self._shared.reused = 0
        answer = self._from_base(step, call) if step.use == BASE else self._from_adapter(step, call)
        return Answered(
            result=answer.text.strip() if step.use == BASE else answer.result,
            text=answer.text,
            seconds=answer.seconds,
            prompt_tokens=answer.prefix_tokens + answer.suffix_tokens,
            reused_tokens=self._shared.reused,
        )

    def _from_adapter(self, step: Step, call: Call) -> Answer:
        folder = self._flow.folder(step)
        if folder not in self._intrinsics:
            self._intrinsics[folder] = Intrinsic(AdapterRepo.open(folder), self._shared)
        return self._intrinsics[folder].ask(make_request(call.messages, call.documents), call.arguments)

    def _from_base(self, step: Step, call: Call) -> Answer:
        documents = [{"doc_id": str(number), **one} for number, one in enumerate(call.documents, start=1)]
        spec = IOSpec(
            docs_as_message=step.docs_as_message,
            parameters={"max_completion_tokens": step.max_new_tokens or MAX_NEW_TOKENS},
        )
        return self._speaker.answer(rewrite(spec, make_request(call.messages, documents)))


def find_base(flow: Flow, name: str = "") -> BaseModel:
    """The base model of a flow's steps.

    Args:
        flow: opened.
        name: as `--base`; empty for what the flow or its first adapter says.

    Raises:
        UsageError: ZO306, nothing names one, or the adapters name another one.
        BaseMissingError: it cannot be had.
    """
    wanted = name or _stated(flow)
    first = next(
        ((s, c) for s in flow.spec.steps if (c := flow.contracts.get(s.id)) and c.base.get("id")), None
    )
    if wanted:
        base = resolve(wanted)
    elif first is not None:
        base = named_base(AdapterRepo.open(flow.folder(first[0])))
    else:
        raise UsageError(
            f"{flow.path.name} names no base model, and neither does an adapter in it",
            hint="write base: into the flow, or give --base",
            code="ZO306",
        )
    if first is not None and not name and first[1].base["id"] != base.id:
        raise UsageError(
            f"{flow.path.name} wants the base {base.id}, and step {first[0].id} is for {first[1].base['id']}",
            hint="take `base:` out of the flow; --base NAME overrides both",
            code="ZO306",
        )
    return base


def _stated(flow: Flow) -> str:
    """The flow's own `base:`; a folder is relative to the file."""
    stated = flow.spec.base or ""
    beside = flow.path.parent / stated
    return str(beside) if stated and beside.is_dir() else stated
