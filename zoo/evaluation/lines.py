"""What was measured of an adapter's answers, for people, a line a fact."""

from zoo.evaluation.verdict import plain, signed
from zoo.specs.comparison import Comparison
from zoo.specs.lock import BehaviourRecord

NAME = 12  # width of the first column
MEANING = {
    "base": "no adapter",
    "lora": "on the whole prompt",
    "relabelled": "its weights from the invocation on",
    "recovered": "this release",
}
VERDICTS = {
    "equivalent": "EQUIVALENT",
    "degraded": "DEGRADED",
    "re-reads": "RE-READS THE CONTEXT",
    "undecided": "UNDECIDED",
}


def behaviour_lines(measured: BehaviourRecord) -> list[str]:
    """The columns with their intervals, lengths, boundary, and the verdict."""
    comparison = measured.comparison
    head = _fact("measured", f"on {measured.samples:,} samples that were not trained on")
    if comparison is None:
        return [head, *_shares(measured)]
    return [
        head + "; 95 % intervals, the difference paired",
        _row("", "", comparison.metric.replace("_", " "), "answers as the LoRA"),
        *[
            _row(name, MEANING[name], plain(comparison.scores[name]), plain(comparison.agreement[name]))
            for name in comparison.scores
        ],
        *_commonest(measured),
        _row("difference", "recovered minus LoRA", signed(comparison.differences["recovered-lora"])),
        *_lengths(comparison),
        *_boundary(comparison),
        *_control(comparison),
        _fact("recovery", comparison.stopped),
        _fact("verdict", f"{VERDICTS[comparison.verdict]}: {comparison.reason}"),
    ]


def _shares(measured: BehaviourRecord) -> list[str]:
    columns = [f"{name} {value:.3f}" for name, value in measured.accuracy.items()]
    agreed = [f"{name} {value:.3f}" for name, value in measured.agreement.items()]
    return [
        _fact("agreement", f"with the teacher LoRA: {', '.join(agreed)}"),
        _fact("accuracy", ", ".join(columns)),
        *_commonest(measured),
    ]


def _commonest(measured: BehaviourRecord) -> list[str]:
    return (
        []
        if measured.trivial is None
        else [_row("commonest", "always the same answer", f"{measured.trivial:.3f}")]
    )


def _lengths(comparison: Comparison) -> list[str]:
    return [
        _row(
            "context" if place == 0 else "",
            f"{one.shortest:,} to {one.longest:,} tokens ({one.samples:,} samples)",
            signed(one.difference),
            f"LoRA {one.scores['lora']:.3f}, recovered {one.scores['recovered']:.3f}",
        )
        for place, one in enumerate(comparison.lengths)
    ]


def _boundary(comparison: Comparison) -> list[str]:
    """Where each weights' adapter begins, how good it then is, and how often it answers as the LoRA."""
    found, before = [], ""
    for point in comparison.boundary:
        if point.weights != before:
            whose = "the LoRA's weights" if point.weights == "lora" else "recovered weights"
            found.append(_row("begun at" if not before else "", f"{whose} ({point.samples:,} samples):"))
            before = point.weights
        found.append(_row("", f"  {point.start}", f"{point.score:.3f}", f"{point.agreement:.3f}"))
    return found


def _control(comparison: Comparison) -> list[str]:
    control = comparison.control
    if control is None:
        return []
    said = f"a fresh LoRA on the whole prompt, {control.steps:,} steps: {plain(control.score)}"
    return [_fact("control", f"{said}, as the LoRA {plain(control.agreement)}")]


def _fact(name: str, said: str) -> str:
    return f"{name:<{NAME}}{said}"


def _row(name: str, first: str, second: str = "", third: str = "") -> str:
    return f"{name:<{NAME}}{first:<40}{second:<24}{third}".rstrip()
