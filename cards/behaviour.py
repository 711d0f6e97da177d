"""The section about answers: how often they are right, beside what they must be compared with."""

from zoo.cards.markdown import cell, image, table
from zoo.cards.record import CardRecord
from zoo.cards.recovery import recovery
from zoo.evaluation.verdict import plain
from zoo.pictures import evaluation

_COLUMNS = {
    "base": "base model, no adapter",
    "lora": "source LoRA, on every token",
    "relabelled": "the LoRA's weights used as an aLoRA, not recovered",
    "recovered": "recovered aLoRA",
    "trained": "trained aLoRA",
}

INVENTED = (
    "**Measured on invented requests alone.** The base model wrote them and the source LoRA answered them: "
    "an accuracy here is agreement with that LoRA. How it answers real requests, nobody measured."
)


def behaviour(record: CardRecord) -> str:
    """How well it does its task."""
    measured = record.behaviour
    if not record.measured:
        return "## Behaviour\n\n**Unverified.** Nobody has measured its answers on held-out samples. " + (
            "A LoRA's weights do something else once they act on the end of the prompt only, so the "
            "source LoRA's quality says nothing about this adapter's."
            if record.lock and record.lock.conversion and not record.lock.training
            else "Do not rely on them."
        )
    names = [*_COLUMNS, *sorted(set(measured.accuracy) - set(_COLUMNS))]
    rows = [_row(record, name) for name in names if name in measured.accuracy]
    if measured.trivial is not None:
        rows.append(["always the commonest answer", f"{measured.trivial:.3f}", "", f"{measured.samples:,}"])
    brackets = "" if measured.comparison else "; brackets are Wilson's 95 % intervals"
    data = f" Data file: sha256 `{measured.data_sha256}`." if measured.data_sha256 else ""
    return (
        "## Behaviour\n\n"
        f"{table(['who answers', 'accuracy', 'agrees with the source LoRA', 'n'], rows, right=(1, 2, 3))}\n\n"
        f"{measured.samples:,} held-out samples that it was not trained on{brackets}.{data}"
        + _warning(record)
        + _picture(record)
        + (f"\n\n{INVENTED}" if record.on_invented else "")
        + (f"\n\n{recovery(measured.comparison)}" if measured.comparison else "")
    )


def _picture(record: CardRecord) -> str:
    if evaluation.EVALUATION_NAME not in record.pictures or record.on_invented:
        return ""
    return f"\n\n{image(evaluation.EVALUATION_NAME, evaluation.alternative(record.behaviour))}"


def _row(record: CardRecord, name: str) -> list[str]:
    measured = record.behaviour
    label = _COLUMNS.get(name) or cell(name)
    agreement, compared = measured.agreement.get(name), measured.comparison
    cells = [_share(record, measured.accuracy[name]), _share(record, agreement)]
    if compared and name in compared.scores:
        metric = f" {cell(compared.metric.replace('_', ' '))}" if compared.metric != "accuracy" else ""
        cells = [plain(compared.scores[name]) + metric, plain(compared.agreement[name])]
    return [
        f"**{label} (this release)**" if name == record.own_column else label,
        *cells,
        f"{measured.samples:,}",
    ]


def _share(record: CardRecord, value: float | None) -> str:
    return plain(evaluation.share(value, record.behaviour.samples)) if value is not None else ""


def _warning(record: CardRecord) -> str:
    measured = record.behaviour
    own = measured.accuracy[record.own_column]
    beaten = []
    if measured.trivial is not None and own <= measured.trivial:
        beaten.append("always giving the commonest answer")
    if own <= measured.accuracy.get("base", -1.0):
        beaten.append("the base model without it")
    return f"\n\n**It is no better than {' or '.join(beaten)}.**" if beaten else ""
