"""Every seeded defect is caught by the code that has to catch it, and nothing in order raises an alarm."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.validators.conformance.bench import FAMILIES
from tests.validators.conformance.mutations import correct_adapters
from tests.validators.conformance.mutations.mutant import CONSTRUCTED, Mutant
from tests.validators.conformance.mutations.run import MUTANTS, Workshop, caught, verdict
from zoo.models import BaseModel
from zoo.validators.catalog import STATIC_CHECKS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT and transformers say what is broken too
RELEASES = {str(sorted(mutant.release.items())): mutant.release for mutant in MUTANTS}
STATIC = {check.code for check in STATIC_CHECKS}


@pytest.fixture(scope="module")
def workshop(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(base=tiny_base, folder=tmp_path_factory.mktemp("mutants"))


@pytest.fixture(scope="module")
def correct_bases(tmp_path_factory: pytest.TempPathFactory) -> correct_adapters.Bases:
    return correct_adapters.Bases(folder=tmp_path_factory.mktemp("correct"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_seeded_defect_is_caught_by_its_code(mutant: Mutant, workshop: Workshop) -> None:
    found = workshop.verdict(mutant)
    assert caught(mutant, found), (found.status, sorted(found.errors), found.skipped, found.crashed)


@pytest.mark.parametrize("settings", RELEASES.values(), ids=RELEASES)
def test_the_release_that_a_defect_is_seeded_into_is_in_order(
    settings: dict[str, object], workshop: Workshop
) -> None:
    found = verdict(workshop.release(settings), workshop.base)
    assert found.status == "passed"
    assert not correct_adapters.alarmed(found)


@pytest.mark.parametrize("correct", correct_adapters.ADAPTERS, ids=lambda correct: correct.id)
def test_a_correct_adapter_raises_no_alarm(
    correct: correct_adapters.Correct, correct_bases: correct_adapters.Bases
) -> None:
    found = correct_bases.verdict(correct)
    assert correct_adapters.alarmed(found) == {}
    assert found.status == "passed"


def test_a_mutant_that_changes_nothing_is_not_caught(workshop: Workshop) -> None:
    nothing = Mutant(id="nothing", family="engines", what="", source=CONSTRUCTED, codes=frozenset({"ZR001"}))
    assert not caught(nothing, workshop.verdict(nothing))


def test_every_engine_is_whole_again_after_its_mutant() -> None:
    from peft import PeftModelForCausalLM
    from peft.tuners.lora import LoraModel, variants
    from peft.tuners.lora.layer import LoraLayer
    from transformers.cache_utils import DynamicLayer

    from zoo import peft_model
    from zoo.validators.conformance.prefill import Prefill

    def parts() -> list[Callable[..., object]]:
        return [
            *(
                PeftModelForCausalLM.forward,
                PeftModelForCausalLM.generate,
                PeftModelForCausalLM.disable_adapter,
            ),
            *(LoraModel.set_adapter, LoraLayer.enable_adapters, LoraLayer.delete_adapter),
            *(variants.calculate_alora_offsets, variants.ALoraLinearVariant.forward),
            *(DynamicLayer.crop, Prefill.cache, peft_model.attach, peft_model.guarded),
        ]

    before = parts()
    for mutant in MUTANTS:
        with mutant.engine():
            changed = parts() != before
        assert parts() == before, mutant.id
        assert changed is (mutant.breakage is None), mutant.id


def test_the_table_is_large_sourced_and_mostly_beyond_the_files() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS) >= 60
    assert all(mutant.what and mutant.source and mutant.codes for mutant in MUTANTS)
    assert min(Counter(mutant.family for mutant in MUTANTS).values()) >= 20
    assert sum(mutant.source != CONSTRUCTED for mutant in MUTANTS) >= 40
    assert sum(not mutant.codes & STATIC for mutant in MUTANTS) >= 40


def test_the_correct_adapters_differ_in_what_matters() -> None:
    chosen = correct_adapters.ADAPTERS
    assert len({one.id for one in chosen}) == len(chosen) >= 12
    assert {one.family for one in chosen} == set(FAMILIES)
    assert {1, 64} <= {one.rank for one in chosen}
    assert {one.dtype for one in chosen} == {"float32", "bfloat16", "float16"}


def test_a_broken_release_is_a_copy(workshop: Workshop, tmp_path: Path) -> None:
    from zoo.provenance import payload_digests

    mutant = next(mutant for mutant in MUTANTS if mutant.id == "alpha-after-fold")
    before = payload_digests(workshop.release(mutant.release))
    assert workshop.verdict(mutant).status == "failed"
    assert payload_digests(workshop.release(mutant.release)) == before
