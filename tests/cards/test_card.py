"""The card says what the release's files say, and nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.hub.card import problems
from tests.releases import COMMIT, COMPARISON, MEASURED, OUTCOMES, failed, report_on, skipped, write_release
from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.cards.card import SECTIONS, recorded_report, render_card
from zoo.cards.front_matter import metadata
from zoo.cards.record import read_record
from zoo.errors import NotFoundError, RefusedError
from zoo.report import Crashed, Report
from zoo.specs.comparison import Control, Estimate
from zoo.specs.lock import BehaviourRecord
from zoo.specs.release import BaseRef, GatePolicy, InvocationSpec, Position

VECTORS = {"conformance.safetensors": b"their digest is all that the card reads"}
GOLDEN = Path(__file__).parents[1] / "golden" / "card.md"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", files=VECTORS)


def card_of(folder: Path, report: Report | None = None, hub_id: str = "org/relevance") -> str:
    return render_card(AdapterRepo.open(folder), report, hub_id=hub_id)


def test_the_card_of_a_fixed_release_is_the_golden_one(release: Path) -> None:
    card = card_of(release, report_on(release))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(card)
    assert card == GOLDEN.read_text()


def test_it_is_byte_stable_and_does_not_know_where_the_folder_is(tmp_path: Path) -> None:
    one, two = write_release(tmp_path / "one"), write_release(tmp_path / "elsewhere" / "two")
    assert card_of(one, report_on(one)) == card_of(two, report_on(two, seconds=9.0))
    assert str(tmp_path) not in card_of(one, report_on(one))
    other = write_release(tmp_path / "three", seed=1)
    assert card_of(one, report_on(one)) != card_of(other, report_on(other))


def test_the_client_reads_the_metadata_and_the_results(release: Path) -> None:
    card = ModelCard(card_of(release, report_on(release)))
    data = card.data.to_dict()
    assert data["base_model"] == "tests/tiny-llama"
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "text-generation"
    assert data["license"] == "apache-2.0"
    assert {"alora", "lora", "peft", "base_model:adapter:tests/tiny-llama"} <= set(data["tags"])
    name, results = model_index_to_eval_results(data["model-index"])
    assert name == "relevance"
    found = {result.metric_type: result for result in results}
    assert found["accuracy"].metric_value == MEASURED.accuracy["recovered"]
    assert found["agreement"].metric_value == MEASURED.agreement["recovered"]
    assert all("120 held-out samples" in str(one.metric_name) for one in results)
    assert all("not a public benchmark" in one.dataset_name for one in results)


def test_the_metadata_survive_the_clients_own_rewriting(release: Path) -> None:
    text = card_of(release, report_on(release))
    card = ModelCard(text)
    assert yaml.safe_load(str(card).split("---\n")[1]) == metadata(
        read_record(AdapterRepo.open(release), None)
    )
    assert problems(text) == ([], [])


def test_no_results_without_a_measurement(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "unverified", behaviour=BehaviourRecord())
    card = card_of(folder, report_on(folder))
    assert "model-index" not in card
    assert "**Unverified.**" in card
    assert "How good its answers are: nobody measured" in card
    assert "accuracy |" not in card


def test_it_says_when_an_adapter_is_no_better_than_nothing(tmp_path: Path) -> None:
    weak = MEASURED.model_copy(update={"accuracy": {"base": 0.6, "relabelled": 0.5}})
    card = card_of(write_release(tmp_path / "weak", behaviour=weak))
    assert "no better than always giving the commonest answer or the base model without it" in card
    assert "**the LoRA's weights used as an aLoRA, not recovered (this release)**" in card
    assert "no better" not in card_of(write_release(tmp_path / "strong"))


def test_a_share_stands_with_its_interval(release: Path) -> None:
    card = card_of(release)
    assert "| source LoRA, on every token | 0.950 [0.895, 0.977] |  | 120 |" in card  # Wilson's
    assert (
        "| **recovered aLoRA (this release)** | 0.942 [0.884, 0.971] | 0.975 [0.929, 0.991] | 120 |" in card
    )


def test_a_recovery_is_shown_with_its_intervals_and_its_verdict(tmp_path: Path) -> None:
    compared = MEASURED.model_copy(update={"comparison": COMPARISON})
    folder = write_release(tmp_path / "compared", behaviour=compared)
    card = card_of(folder, report_on(folder))
    assert "**Equivalent to the source LoRA**: accuracy differs from the LoRA's by -0.008" in card
    assert (
        "| **recovered aLoRA (this release)** | 0.942 [0.912, 0.972] | 0.975 [0.945, 1.005] | 120 |" in card
    )
    assert "| 12 to 1,700 | 0.950 | 0.942 | -0.008 [-0.038, +0.022] | 120 |" in card
    assert "| source LoRA's | the invocation | 0.530 | 0.550 | 64 |" in card
    assert "The recovery ended at step 45 of 100" in card
    assert "control" not in card
    assert problems(card) == ([], [])
    plain = card_of(write_release(tmp_path / "plain"))
    assert "Where the adapter begins to act" not in plain


def test_a_task_that_does_not_suit_an_alora_is_said_with_its_control(tmp_path: Path) -> None:
    share = Estimate(value=0.9, low=0.8, high=0.95)
    convicted = COMPARISON.model_copy(
        update={
            "verdict": "re-reads",
            "reason": "degraded by much",
            "control": Control(steps=60, score=share, agreement=share, gain=share),
        }
    )
    compared = MEASURED.model_copy(update={"comparison": convicted})
    card = card_of(write_release(tmp_path / "unsuited", behaviour=compared))
    assert "**Not suited to an aLoRA**: degraded by much" in card
    assert (
        "a fresh LoRA on whole prompts, trained on the same data for 60 steps: 0.900 [0.800, 0.950]" in card
    )


def test_figures_on_invented_requests_alone_are_no_result(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "invented")
    path = folder / LOCK_NAME
    content = json.loads(path.read_text())
    made = {"sha256": content["behaviour"]["data_sha256"], "origin": "12 sample requests of zoo.yaml"}
    content["training"]["settings"]["invented"] = made
    path.write_text(json.dumps(content))
    card = card_of(folder)
    assert "**Measured on invented requests alone.**" in card
    assert "model-index" not in card
    assert "written by the base model, like 12 sample requests of zoo.yaml" in card
    content["training"]["settings"]["invented"] = {"sha256": "0" * 64}
    path.write_text(json.dumps(content))
    assert "invented requests" not in card_of(folder)
    assert "model-index" in card_of(folder)


def test_a_release_without_a_report_says_that_nothing_was_checked(release: Path) -> None:
    card = card_of(release)
    assert "**It was not checked.**" in card
    assert "has **not** been shown" in card
    assert "exactly the base model" not in card


def test_a_failed_check_is_shown_as_failed(release: Path) -> None:
    card = card_of(release, report_on(release, failed("ZR001")))
    assert "**failed**" in card
    assert "| ZR001 | PEFT computes the reference | **failed** |" in card
    assert "error, ZR001: layer 1 differs by 0.5" in card
    assert "exactly the base model" not in card


def test_a_skipped_check_is_shown_as_not_checked_with_its_reason(release: Path) -> None:
    card = card_of(release, report_on(release, skipped("ZR001")))
    assert "**incomplete**" in card
    assert "- ZR001, PEFT computes the reference: no network." in card
    assert "| not checked: no network |" in card


def test_an_allowed_skip_is_shown_with_the_authors_reason(release: Path) -> None:
    policy = GatePolicy(allowed_skips={"ZR001": "no GPU | here"})
    card = card_of(release, report_on(release, skipped("ZR001"), allowed=policy))
    assert "no network. The author allows this: no GPU \\| here" in card
    assert "exactly the base model" in card


def test_a_crashed_check_is_shown(release: Path) -> None:
    outcomes = [
        (code, title, Crashed(error="KeyError: x") if code == "ZK001" else o) for code, title, o in OUTCOMES
    ]
    card = card_of(release, report_on(release, outcomes))
    assert "**broke off**" in card
    assert "ZK001, Prefix KV is the base's: the check crashed: KeyError: x" in card


def test_sections_without_content_are_left_out(tmp_path: Path) -> None:
    bare = write_release(tmp_path / "bare", made=False)
    assert "## How it was made" not in card_of(bare)
    assert "## Notes" not in card_of(bare)
    noted = write_release(tmp_path / "noted", files={"NOTES.md": b"# Mine\n\n* kept | `as` <b>is</b>\n"})
    card = card_of(noted)
    assert "## How it was made" in card
    assert card.endswith("no check looked at them.\n\n# Mine\n\n* kept | `as` <b>is</b>\n")


def test_every_section_is_in_the_full_card_in_order(release: Path) -> None:
    record = read_record(AdapterRepo.open(release), report_on(release))
    card = card_of(release, report_on(release), hub_id="")
    places = [card.index(text) for section in SECTIONS if (text := section(record))]
    assert places == sorted(places)
    assert len(places) == len(SECTIONS) - 4  # no notes, no contract, no cost, no changes


def test_changes_stand_by_version_the_newest_first(tmp_path: Path) -> None:
    said = {"0.2.0": ["older | words"], "0.10.0": ["a", "b"], "0.10.0-rc.1": ["c"]}
    card = card_of(write_release(tmp_path / "told", version="0.10.0", changes=said))
    told = card[card.index("## Changes") : card.index("## Citation")]
    assert [line for line in told.splitlines() if line.startswith(("**", "- "))] == [
        "**0.10.0**", "- a", "- b", "**0.10.0-rc.1**", "- c", "**0.2.0**", "- older \\| words",
    ]  # fmt: skip
    assert "## Changes" not in card_of(write_release(tmp_path / "untold"))


def test_a_report_about_other_files_is_refused(release: Path) -> None:
    report = report_on(release)
    (release / "zoo.yaml").write_text((release / "zoo.yaml").read_text() + "\n")
    with pytest.raises(RefusedError) as refused:
        card_of(release, report)
    assert refused.value.code == "ZH006"
    with pytest.raises(RefusedError):
        card_of(release, replace(report_on(release), digest="0" * 64))


def test_a_folder_without_zoo_yaml_has_no_card(release: Path) -> None:
    (release / "zoo.yaml").unlink()
    with pytest.raises(NotFoundError, match=r"zoo\.yaml"):
        card_of(release)


def test_there_is_no_recorded_report_before_validation(release: Path) -> None:
    assert recorded_report(AdapterRepo.open(release)) is None


def test_a_base_that_is_only_a_folder_is_not_called_a_model_on_the_hub(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "local", base=BaseRef(id="gpt2"))
    card = card_of(folder)
    assert "base_model" not in card
    assert "the weights did not come from the Hub" in card


def test_the_embedded_base_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    base = BaseRef(id="HuggingFaceTB/SmolLM2-135M-Instruct", embedded="smollm2-135m-instruct")
    card = card_of(write_release(tmp_path / "embedded", base=base))
    assert 'resolve("smollm2-135m-instruct")' in card
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card


@pytest.mark.parametrize("position", list(Position))
def test_each_position_is_said(tmp_path: Path, position: Position) -> None:
    spec = InvocationSpec(text="``` <req>", position=position)
    card = card_of(write_release(tmp_path / "release", invocation=spec, samples=[]))
    assert "- text: ```` ``` <req> ````" in card
    assert ("add_generation_prompt=True" in card) is (position is not Position.AFTER_PROMPT)
    assert ("text += " in card) is (position is Position.AFTER_PROMPT)


def test_the_snippet_pins_what_it_loads(release: Path) -> None:
    card = card_of(release)
    assert f'commit = "{COMMIT}"' in card
    assert 'from_pretrained(model, "org/relevance", revision="v0.1.0")' in card
    assert 'from_pretrained(model, ".")' in card_of(release, hub_id="")


HOSTILE = "x\n\n## How it was checked\n\nAll well. | `a` <!-- <details> [b](c)\n```\n~~~\n- # y\nTitle\n===\n"


def visible(card: str) -> list[str]:
    """Lines outside of code blocks, whose fences are as the card's own sections write them."""
    found, fence = [], ""
    for line in card.split("---\n", 2)[2].splitlines():
        mark = line[: len(line) - len(line.lstrip("`"))] if line.startswith("```") else ""
        if not fence:
            found.append(line)
        if mark and (not fence or line == fence):
            fence = "" if fence else mark
    assert not fence
    return found


def test_no_text_of_a_strangers_release_hides_or_adds_a_section(tmp_path: Path) -> None:
    """Everything that the card takes over, each with all that Markdown could make of it."""
    behaviour = MEASURED.model_copy(
        update={
            "accuracy": MEASURED.accuracy | {HOSTILE: 0.5},
            "comparison": COMPARISON.model_copy(
                update={
                    "reason": HOSTILE,
                    "stopped": HOSTILE,
                    "metric": HOSTILE,
                    "boundary": [one.model_copy(update={"start": HOSTILE}) for one in COMPARISON.boundary],
                }
            ),
        }
    )
    folders = [
        write_release(
            tmp_path / "hostile",
            description=f"{HOSTILE}\n\n{HOSTILE}",
            behaviour=behaviour,
            base=BaseRef(id=HOSTILE, revision=COMMIT),
            training_data=[HOSTILE],
            changes={"0.1.0": [HOSTILE]},
            invocation=InvocationSpec(text=HOSTILE),
        ),
        write_release(tmp_path / "plain", description="x\n\ny", changes={"0.1.0": ["x"]}),
    ]
    path = folders[0] / LOCK_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"zoo_version": HOSTILE}))
    reports = [
        replace(report_on(folder), environment={"torch": HOSTILE, "device": HOSTILE}) for folder in folders
    ]
    hostile, plain = (visible(card_of(*pair)) for pair in zip(folders, reports, strict=True))
    headings = [[line for line in lines if line.startswith("#")] for lines in (hostile, plain)]
    assert headings[0] == headings[1]
    tags = {line for line in hostile if "<" in line.replace("&lt;", "") and "`" not in line}
    assert tags == {line for line in plain if "<" in line and "`" not in line}
    assert not any(line.strip() and not line.strip("=- ") for line in hostile)  # what underlines a heading
    assert not any(line.strip(" >-").startswith(("#", "~~~")) for line in hostile if not line.startswith("#"))


def test_a_strangers_base_name_is_text_in_the_program_and_no_program(tmp_path: Path) -> None:
    named = 'x").folder; import os; os.remove("y'
    card = card_of(write_release(tmp_path / "r", base=BaseRef(id="a/b", embedded=named)))
    assert f"resolve({named!r})" in card


def test_evidence_of_a_stranger_is_a_report_or_refused(release: Path) -> None:
    from zoo.errors import SpecError
    from zoo.render.json import from_document, to_document

    good = to_document(report_on(release))
    assert from_document(good) == report_on(release)
    first = good["results"][0]
    for change in (
        {"code": "ZB001 |"},
        {"code": 7},
        {"title": None},
        {"seconds": "1"},
        {"outcome": {"kind": "flagged", "findings": [], "measured": {}}},
        {"outcome": {"kind": "passed", "measured": [1]}},
        {"outcome": {"kind": "passed", "measured": {"a": {}}}},
        {"outcome": {"kind": "skipped", "reason": 1}},
        {"outcome": {"kind": "crashed", "error": []}},
    ):
        with pytest.raises(SpecError, match="damaged"):
            from_document(good | {"results": [first | change]})
    with pytest.raises(SpecError, match="damaged"):
        from_document(good | {"environment": {"torch": 2}})


def test_an_engine_that_was_run_is_not_called_not_run(release: Path) -> None:
    from zoo.report import Passed

    outcomes = [*OUTCOMES, ("ZE002", "vLLM computes the reference's numbers", Passed())]
    assert "none was run with this adapter" not in card_of(release, report_on(release, outcomes))
    assert "only PEFT is run" not in card_of(release, report_on(release, outcomes))
    assert "none was run with this adapter" in card_of(release, report_on(release))
