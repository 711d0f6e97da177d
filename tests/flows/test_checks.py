from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.flows.conftest import EXAMPLE, Edit
from zoo.flows.checks import CHECKS, check_flow
from zoo.flows.flow import Flow
from zoo.report import Finding, Severity
from zoo.validators.explain import titles

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def findings(folder: Path) -> Sequence[tuple[str, Finding]]:
    """What was found, without the notes that the example's adapters have no weights."""
    found = check_flow(Flow.open(folder)).findings()
    return [(result.code, finding) for result, finding in found if finding.severity is not Severity.INFO]


def test_the_example_passes_every_check() -> None:
    report = check_flow(Flow.open(EXAMPLE))
    assert report.status() == "passed"
    assert [result.code for result in report.results] == [code for code, _, _ in CHECKS]


CASES: list[tuple[str, str, str, Severity, str]] = [
    ("use: ./citations", "use: ./citation", "ZO301", ERROR, "citation is not a folder"),
    ("assistant: answer\n", "assistant: anser\n", "ZO302", ERROR, "no step is called 'anser'"),
    ("response: answer", "response: anser", "ZO302", ERROR, "no step is called 'anser'"),
    (
        "last_user: rewrite.rewritten_question",
        "last_user: citations.0.citation_text",
        "ZO303",
        ERROR,
        "later",
    ),
    ("use: ./query_rewrite", "use: ./query_rewrite\n    when: rewrite.x == 1", "ZO303", ERROR, "itself"),
    ("rewrite.rewritten_question", "rewrite.question", "ZO304", ERROR, "it has rewritten_question"),
    ("rewrite.rewritten_question", "rewrite.rewritten_question.x", "ZO304", ERROR, "it is string"),
    (
        "when: answerable.answerability ==",
        "when: answerable.label ==",
        "ZO304",
        ERROR,
        "it has answerability",
    ),
    (
        "last_user: rewrite.rewritten_question",
        "last_user: rewrite",
        "ZO305",
        ERROR,
        "a text, and rewrite is object",
    ),
    ("response: answer", "response: citations", "ZO305", ERROR, "wants a text"),
    ("response: answer", "response: citations.*.citation_text", "ZO305", ERROR, "names several"),
    (
        "assistant: answer\n",
        "assistant: answer\n      documents: citations.0.citation_text\n",
        "ZO305",
        ERROR,
        "array",
    ),
    ('== "answerable"', "== true", "ZO305", ERROR, "with boolean"),
    ('== "answerable"', "> 0.5", "ZO305", ERROR, "orders numbers"),
    (
        "use: ./citations\n    input:\n",
        "use: ./citations\n    input:\n      arguments: {x: {value: 1}}\n",
        "ZO307",
        ERROR,
        "takes no arguments",
    ),
    ("citations: citations\n", "", "ZO308", WARNING, "step citations is run for nothing"),
    (
        "use: ./citations\n",
        'use: ./citations\n    when: answerable.answerability == "unanswerable"\n',
        "ZO308",
        ERROR,
        "has ended already",
    ),
    (
        'when: answerable.answerability == "answerable"',
        'when: [answerable.answerability == "answerable", answerable.answerability == "unanswerable"]',
        "ZO308",
        ERROR,
        "exclude each other",
    ),
    (
        '== "answerable"',
        '== "yes"',
        "ZO315",
        ERROR,
        'never holds: answerable.answerability is one of "answerable"',
    ),
    ('== "answerable"', '!= "yes"', "ZO315", WARNING, "always holds"),
    (
        "faithfulness: check.faithfulness",
        "faithfulness: answerable.answerability",
        "ZO311",
        ERROR,
        "no value for",
    ),
    ("faithfulness: check.faithfulness", "faithfulness: answer", "ZO311", ERROR, "wants a number"),
]


@pytest.mark.parametrize(("old", "new", "code", "severity", "words"), CASES)
def test_each_check_says_what_is_wrong(
    old: str, new: str, code: str, severity: Severity, words: str, edited: Edit
) -> None:
    found = findings(edited(old, new))
    assert [finding for at, finding in found if at == code and finding.severity is severity], found
    mine = next(finding for at, finding in found if at == code)
    assert words in mine.message
    assert mine.location is not None
    assert mine.location.line is not None


def test_every_check_has_a_case_that_fails_it() -> None:
    tried = {code for _, _, code, _, _ in CASES} | {"ZO306"}
    assert {code for code, _, _ in CHECKS} == tried


def test_every_code_has_a_page() -> None:
    missing = {f"ZO{number}" for number in range(300, 316) if number != 309} - titles().keys()
    assert not missing


def test_an_error_line_is_the_line_of_the_reference(edited: Edit) -> None:
    folder = edited("assistant: answer\n", "assistant: anser\n")
    (_, finding), *_ = findings(folder)
    assert finding.location is not None
    lines = (folder / "flow.yaml").read_text().splitlines()
    assert "anser" in lines[(finding.location.line or 0) - 1]


def test_adapters_of_two_bases(careful: Path) -> None:
    write_release(careful / "query_rewrite", "org/one")
    write_release(careful / "answerability", "org/one")
    assert not findings(careful)

    write_release(careful / "citations", "org/two")
    ((code, finding),) = findings(careful)
    assert code == "ZO306"
    assert "org/two" in finding.message


def test_adapters_of_two_commits_of_a_base(careful: Path) -> None:
    write_release(careful / "query_rewrite", "org/one", "a" * 40)
    write_release(careful / "citations", "org/one", "b" * 40)
    assert [code for code, _ in findings(careful)] == ["ZO306"]


def write_release(folder: Path, base: str, revision: str = "") -> None:
    commit = f", revision: {revision}" if revision else ""
    text = f"format: 1\nname: x\nbase: {{id: {base}{commit}}}\ninvocation: {{text: '<x>'}}\n"
    (folder / "zoo.yaml").write_text(text)


def test_an_instruction_without_its_argument(careful: Path) -> None:
    io_file = careful / "query_rewrite" / "io.yaml"
    io_file.write_text(io_file.read_text() + 'instruction: "In {language}:"\n')
    ((code, finding),) = findings(careful)
    assert code == "ZO307"
    assert "wants language" in finding.message

    flow = careful / "flow.yaml"
    given = "use: ./query_rewrite\n    input: {arguments: {language: request.arguments.language}}"
    flow.write_text(flow.read_text().replace("use: ./query_rewrite", given))
    assert not findings(careful)


def test_an_adapter_without_a_contract(careful: Path) -> None:
    (careful / "answerability" / "io.yaml").unlink()
    write_release(careful / "answerability", "org/one")
    found = [(code, finding.severity) for code, finding in findings(careful)]
    assert ("ZO301", WARNING) in found
    assert ("ZO304", ERROR) in found  # its result is a text, which has no `answerability`
    flow = careful / "flow.yaml"
    flow.write_text(flow.read_text().replace("answerable.answerability ==", "answerable =="))
    assert [code for code, _ in findings(careful)] == ["ZO301"]


def test_an_adapter_that_cannot_share_a_cache(careful: Path) -> None:
    config = careful / "citations" / "adapter_config.json"
    config.write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}')
    (careful / "citations" / "adapter_model.safetensors").touch()
    ((code, finding),) = findings(careful)
    assert code == "ZO301"
    assert "plain LoRA" in finding.message


def test_contracts_without_weights_are_noted() -> None:
    notes = [finding for _, finding in check_flow(Flow.open(EXAMPLE)).findings()]
    assert len(notes) == 4
    assert {finding.severity for finding in notes} == {Severity.INFO}


def test_a_broken_contract_is_named_with_its_own_code(careful: Path) -> None:
    io_file = careful / "citations" / "io.yaml"
    io_file.write_text(io_file.read_text() + "nonsense: 1\n")
    (_, finding), *_ = findings(careful)
    assert "nonsense" in finding.message
    assert "ZO0" in finding.message


def test_a_field_that_may_be_missing_is_a_warning_also_below(careful: Path) -> None:
    io_file = careful / "query_rewrite" / "io.yaml"
    inner = '{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}'
    io_file.write_text(f"""
response_format: '{{"type": "object", "properties": {{"best": {inner}}}}}'
transformations: null
""")
    flow = careful / "flow.yaml"
    flow.write_text(flow.read_text().replace("rewrite.rewritten_question", "rewrite.best.text"))
    found = findings(careful)
    assert {(code, finding.severity) for code, finding in found} == {("ZO304", WARNING)}
    assert "may be missing" in found[0][1].message


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("check.faithfulness >= 1", ""),  # an integer compares with a number
        ("check.faithfulness == 1", ""),
        ("check.faithfulness > 0.5", ""),
        ("[check.faithfulness > 0.5, check.faithfulness < 0.6]", ""),
        ("[check.faithfulness > 0.5, check.faithfulness < 0.5]", "ZO308"),
        ("[check.faithfulness > 0.5, check.faithfulness <= 0.5]", "ZO308"),
        ("[check.faithfulness == 0.5, check.faithfulness != 0.5]", "ZO308"),
        ('answerable.answerability in ["answerable", "unanswerable"]', "ZO315"),
        ('answerable.answerability != "unanswerable"', ""),
        ('request.messages.0.content == "x"', ""),
        ("request.arguments.depth == 3", ""),
    ],
)
def test_what_conditions_come_to(condition: str, code: str, careful: Path) -> None:
    flow = careful / "flow.yaml"
    last = f"  - id: last\n    use: base\n    when: {condition}\n"
    text = flow.read_text().replace("\noutput:", f"\n{last}\noutput:\n  last: last")
    flow.write_text(text)
    assert [at for at, _ in findings(careful)] == ([code] if code else [])
