"""Whatever a flow file holds, reading and checking it ends in our own errors, or in findings."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.conftest import EXAMPLE
from zoo.errors import ZooError
from zoo.flows.checks import check_flow
from zoo.flows.controls import only_scored, variants
from zoo.flows.execution import Answered, Call, run_flow
from zoo.flows.flow import Flow
from zoo.flows.request import read_request
from zoo.report import Crashed
from zoo.specs.flow import Step

TEXT = (EXAMPLE / "flow.yaml").read_text()
PIECES = [
    "rewrite",
    "answerable",
    "answer",
    "check",
    "citations",
    "request.messages",
    "request.documents",
    "base",
    "null",
    "answerable.answerability",
    "check.faithfulness",
    "rewrite.rewritten_question",
    "0",
    "true",
    "[]",
    "{}",
    "*",
    "check.faithfulness > 0.5",
    'answerable.answerability in ["answerable", 1, null]',
    "check.faithfulness == -1",
    "citations.0.citation_begin",
    "citations.*",
    "{result: 3}",
    "{abstain: x}",
    "data.x",
    "../careful",
    "\n",
    "  ",
    ":",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutants(draw: st.DrawFn) -> str:
    text = TEXT
    for _ in range(draw(st.integers(1, 4))):
        words = [
            word
            for word in (*PIECES, "when", "otherwise", "last_user", "assistant", "./citations")
            if word in text
        ]
        old = draw(st.sampled_from(words))
        new = draw(st.sampled_from(PIECES) | st.text(max_size=5))
        parts = text.split(old)
        at = draw(st.integers(1, len(parts) - 1))
        text = old.join(parts[:at]) + new + old.join(parts[at:])
    return text


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("fuzz") / "careful"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=mutants(), results=st.lists(JSON, min_size=5, max_size=5))
def test_a_mutated_flow_is_read_checked_and_run_or_refused(
    scratch: Path, text: str, results: list[object]
) -> None:
    (scratch / "flow.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        flow = Flow.open(scratch)
    except ZooError:
        return
    report = check_flow(flow)
    assert not any(isinstance(result.outcome, Crashed) for result in report.results)
    if report.status() != "passed":
        return
    given_results = dict(zip([step.id for step in flow.spec.steps], results, strict=False))

    def answer(step: Step, call: Call) -> Answered:
        return Answered(result=given_results.get(step.id), text="")

    request = read_request({"messages": [{"role": "user", "content": "?"}]})
    for variant in variants(flow.spec):
        with suppress(ZooError):
            run_flow(only_scored(flow.spec), request, answer, left_out=variant.left_out)
