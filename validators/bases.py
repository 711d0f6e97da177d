"""The base models of one run: each is found once, its tokenizer read once, its weights loaded once."""

from functools import cached_property
from typing import TYPE_CHECKING

from zoo.models import BaseModel, resolve, resolve_named, resolve_reference

if TYPE_CHECKING:
    from zoo.prompts import Prompter
    from zoo.specs.release import BaseRef
    from zoo.validators.conformance.rig import Rigs


class Bases:
    """What the validations of one run share of their base models."""

    def __init__(self) -> None:
        """Starts with none."""
        self._found: dict[object, BaseModel] = {}
        self._prompters: dict[BaseModel, Prompter] = {}

    @cached_property
    def rigs(self) -> "Rigs":
        """The loaded base of the dynamic part."""
        from zoo.validators.conformance.rig import Rigs

        return Rigs()

    def named(self, spec: str, *, revision: str = "") -> BaseModel:
        """As `zoo.models.resolve`, which says what it raises."""
        key = (spec, revision)
        if key not in self._found:
            self._found[key] = resolve(spec, revision=revision)
        return self._found[key]

    def stated(self, name: str, *, revision: str = "") -> BaseModel:
        """As `zoo.models.resolve_named`, which says what it raises."""
        key = (name, revision, "stated")
        if key not in self._found:
            self._found[key] = resolve_named(name, revision=revision)
        return self._found[key]

    def referred(self, reference: "BaseRef") -> BaseModel:
        """As `zoo.models.resolve_reference`, which says what it raises."""
        key = reference.model_dump_json()
        if key not in self._found:
            self._found[key] = resolve_reference(reference)
        return self._found[key]

    def prompter(self, base: BaseModel) -> "Prompter":
        """Renders and tokenises for a base."""
        from zoo.prompts import Prompter

        if base not in self._prompters:
            self._prompters[base] = Prompter(base)
        return self._prompters[base]
