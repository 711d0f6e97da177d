"""The picture of a training's course, as a card sees it: it is drawn where the course is known."""

from zoo.pictures.canvas import digest
from zoo.specs.lock import TrainingRecord

TRAINING_NAME = "training.png"


def numbers(training: TrainingRecord) -> str:
    """The digest of the run that the picture is of: the lock keeps its record, and not every loss."""
    return digest(training)


def alternative(training: TrainingRecord) -> str:
    """The picture in words, for those who cannot see it."""
    return (
        f"Loss of each of {training.steps:,} steps, {training.final_loss:.3g} nats a token at the last, and "
        "what was seen of validation data; a dotted line marks the step that was kept."
    )
