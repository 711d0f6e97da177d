"""`zoo validate` and `zoo explain` as a user runs them, without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.validators.breakages import BREAKAGES
from tests.validators.changes import break_release, config, lock
from tests.validators.releases import GOOD, static_report
from zoo.errors import UsageError
from zoo.models import BaseModel
from zoo.render.json import from_document, to_document
from zoo.validators.record import check_recordable, record
from zoo.validators.validate import Settings, Validation


def zoo(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("zoo")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [command, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def static(folder: Path, base: BaseModel, *more: str | Path) -> subprocess.CompletedProcess[str]:
    return zoo("validate", folder, "--base", base.folder, "--static", *more, cwd=folder.parent)


def test_a_release_in_order_ends_with_0_and_never_says_passed(release: Path, tiny_base: BaseModel) -> None:
    before = {path: path.read_bytes() for path in release.rglob("*")}
    done = static(release, tiny_base)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("incomplete: ")
    assert "NOT CHECKED" in done.stdout
    assert "passed" not in done.stdout
    assert {path: path.read_bytes() for path in release.rglob("*")} == before


@pytest.mark.parametrize("name", ["NaN", "wrong ids", "huge r"])
def test_a_broken_one_ends_with_1_and_says_what_where_and_how(
    name: str, release: Path, tiny_base: BaseModel
) -> None:
    code = BREAKAGES[name].code
    base = break_release(release, tiny_base, BREAKAGES[name])
    done = static(release, base)
    assert done.returncode == 1
    assert f"FAILED {code}: " in done.stdout
    assert f"→ zoo explain {code}" in done.stdout
    assert "  at adapter_" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"failed: {code}; ")
    assert "Traceback" not in done.stdout + done.stderr


def test_without_its_base_nothing_is_decided(release: Path) -> None:
    done = zoo("validate", release, "--static", cwd=release.parent)
    assert done.returncode == 3
    assert "needs the base model's files" in done.stdout


def test_a_warning_alone_ends_with_0(release: Path, tiny_base: BaseModel) -> None:
    break_release(release, tiny_base, BREAKAGES["alpha is not r"])
    done = static(release, tiny_base)
    assert done.returncode == 0
    assert "warning ZC007" in done.stdout


def test_every_format_at_once_and_json_on_stdout(release: Path, tiny_base: BaseModel, tmp_path: Path) -> None:
    files = [tmp_path / f"report{suffix}" for suffix in (".json", ".xml", ".sarif", ".md")]
    outputs = [part for file in files for part in ("--output", file)]
    done = static(release, tiny_base, "--json", *outputs)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]
    assert files[0].read_text() == done.stdout
    assert files[1].read_text().startswith("<testsuites")
    assert json.loads(files[2].read_text())["version"] == "2.1.0"
    assert files[3].read_text().startswith("## zoo validate")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "report.pdf"], "suffix '.pdf'"),
        (["--output", "no/such/report.json"], "no folder no/such"),
        (["--output", "a.md", "--output", "./a.md"], "twice"),
        (["--static", "--record"], "drop --static"),
        (["--dtype", "int8"], "int8"),
    ],
)
def test_usage_errors_come_before_any_work(
    arguments: list[str], words: str, release: Path, tiny_base: BaseModel
) -> None:
    done = zoo("validate", release, "--base", tiny_base.folder, *arguments, cwd=release.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_the_static_exit_code_forgives_the_dynamic_part_only(release: Path, tiny_base: BaseModel) -> None:
    opened = Validation.open(release, Settings(base=str(tiny_base.folder), static=True))
    report = opened.report(list(opened))
    assert report.status() == "incomplete"
    assert report.exit_code == 3
    assert opened.exit_code(report) == 0
    whole = Validation.open(release, Settings(base=str(tiny_base.folder)))
    assert whole.exit_code(report) == 3  # the whole validation forgives nothing


def test_poor_behaviour_fails_the_static_part_too(release: Path, tiny_base: BaseModel) -> None:
    poor = GOOD.model_dump() | {"agreement": {"recovered": 0.5}}
    lock(lambda content: content.update(behaviour=poor))(release, tiny_base)
    assert static(release, tiny_base).returncode == 1


def test_recording_changes_the_evidence_and_nothing_else(release: Path, tiny_base: BaseModel) -> None:
    report = static_report(release, tiny_base)
    opened = Validation.open(release, Settings(base=str(tiny_base.folder)))
    before = json.loads((release / "zoo.lock.json").read_text())
    check_recordable(opened.context.repo, static=False)
    record(opened.context.repo, report)
    after = json.loads((release / "zoo.lock.json").read_text())
    assert after.pop("evidence") == to_document(report)
    assert before.pop("evidence") is None
    assert after == before
    again = static_report(release, tiny_base)
    assert again.digest == report.digest  # the evidence is about the payload, not about itself
    assert to_document(from_document(to_document(report))) == to_document(report)


def test_an_example_of_other_files_is_not_kept(release: Path, tiny_base: BaseModel) -> None:
    """The card says of it that it was made with these very files."""
    from zoo.specs.lock import ExampleRecord

    made = ExampleRecord(request={"messages": []}, reply="a", result="a", prefix_tokens=1, suffix_tokens=1)
    lock(lambda content: content.update(example=made.model_dump()))(release, tiny_base)

    def recorded() -> object:
        opened = Validation.open(release, Settings(base=str(tiny_base.folder)))
        report = static_report(release, tiny_base)
        content = json.loads((release / "zoo.lock.json").read_text())
        if content["evidence"] is None:
            content["evidence"] = to_document(report)
            (release / "zoo.lock.json").write_text(json.dumps(content))
        record(opened.context.repo, report)
        return json.loads((release / "zoo.lock.json").read_text())["example"]

    assert recorded() == made.model_dump()
    (release / "NOTES.md").write_text("newer")
    assert recorded() is None


def test_a_folder_without_a_lock_cannot_record(release: Path, tiny_base: BaseModel) -> None:
    (release / "zoo.lock.json").unlink()
    opened = Validation.open(release, Settings(base=str(tiny_base.folder)))
    with pytest.raises(UsageError, match="to record in"):
        check_recordable(opened.context.repo, static=False)


def test_a_hostile_tensor_name_does_not_reach_the_terminal(release: Path, tiny_base: BaseModel) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = release / "adapter_model.safetensors"
    save_file(load_file(path) | {"\x1b]0;owned\x07\u202e": torch.ones(1)}, path)
    done = static(release, tiny_base)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "\\x1b" in done.stdout


def test_template_without_system_messages_is_tried_without_them(release: Path, tiny_base: BaseModel) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    from tests.validators.changes import relock, template

    base = template(source)(release, tiny_base)
    assert base
    relock(release, base)
    report = static_report(release, base)
    measured = report.measured()["ZT001"]
    assert "refused" in str(measured["system_messages"])
    assert report.status() == "incomplete"  # ZL004 is left to the whole validation; nothing is wrong
    assert not report.findings()


def test_samples_of_the_release_are_rendered_first(release: Path, tiny_base: BaseModel) -> None:
    from tests.validators.changes import relock, spec

    sample = [{"role": "user", "content": "the release's own"}]
    spec(samples=[sample])(release, tiny_base)
    relock(release, tiny_base)
    context = Validation.open(release, Settings(base=str(tiny_base.folder), static=True)).context
    assert list(context.samples[0]) == sample
    assert len(context.prompts) == len(context.samples) == context.rendering.own + 20


def test_the_key_that_is_wrong_has_its_line(release: Path, tiny_base: BaseModel) -> None:
    config(bias="all")(release, tiny_base)
    lines = (release / "adapter_config.json").read_text().splitlines()
    report = static_report(release, tiny_base)
    location = next(f.location for r, f in report.findings() if r.code == "ZC003")
    assert location is not None
    assert location.line is not None
    assert '"bias"' in lines[location.line - 1]


def test_explain_prints_a_page_lists_all_and_refuses_others(tmp_path: Path) -> None:
    shown = zoo("explain", "zi004", cwd=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.startswith("# ZI004: ")
    listed = zoo("explain", cwd=tmp_path)
    assert "ZC003  No biases are trained\n" in listed.stdout
    wrong = zoo("explain", "ZI0004", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "ZI004" in wrong.stderr
    assert wrong.stdout == ""
