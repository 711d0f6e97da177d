"""What the record of a training says about data that were made, for people."""

from zoo.specs.lock import INVENTED, BehaviourRecord, TrainingRecord, on_invented

_NAME = 12  # width of the first column


def invented_lines(training: TrainingRecord, behaviour: BehaviourRecord) -> list[str]:
    """How data were made, and what they were judged by; nothing where they were given.

    Args:
        training: on them.
        behaviour: what was measured of its result.
    """
    record = training.settings.get(INVENTED)
    if record is None:
        return []
    rejected = ", ".join(f"{count} {reason}" for reason, count in record["rejected"].items()) or "none"
    answers = ", ".join(f"{answer} {count}" for answer, count in record["answers"].items())
    crossed = f", {record['crossed']} more by exchange of their parts" if record["crossed"] else ""
    facts = [
        f"{record['samples']} samples: requests written by the base, answers by the LoRA",
        f"like {record['origin']}; {record['drafted']} written{crossed}",
        f"not used: {rejected}",
        f"answers: {answers}",
        judged_by(training, behaviour),
    ]
    return [f"{'' if place else 'invented':<{_NAME}}{fact}" for place, fact in enumerate(facts)]


def judged_by(training: TrainingRecord, behaviour: BehaviourRecord) -> str:
    """Whether anybody looked at other requests than invented ones, in a sentence."""
    if on_invented(training, behaviour):
        return "measured on invented requests alone; on real ones nobody checked (give --eval-data)"
    return "measured on the requests of --eval-data, none of which it was trained on"
