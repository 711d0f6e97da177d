"""The card's metadata, as the Hub and the client's parser read it.

Source: huggingface/hub-docs, modelcard.md (fields); huggingface_hub 2.4.0, repocard_data.py (`model-index`);
peft 0.21.2, which writes the tag `base_model:adapter:ID`.
"""

import re
from typing import Any

from zoo.cards.record import CardRecord
from zoo.specs.release import HUB_ID

TAGS = ("alora", "activated-lora", "lora", "peft")


def front_matter(record: CardRecord) -> str:
    """The YAML between the two `---` lines, both included, with a newline at the end."""
    import yaml

    text = yaml.safe_dump(metadata(record), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def metadata(record: CardRecord) -> dict[str, Any]:
    """The metadata as plain data, in the order in which it is printed."""
    release = record.release
    base = release.base.id
    on_hub = re.fullmatch(HUB_ID, base) is not None  # a folder's bare name would name somebody else's model
    content: dict[str, Any] = {}
    if on_hub:
        content |= {"base_model": base, "base_model_relation": "adapter"}
    content |= {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": release.license,
        "language": list(release.languages),
        "tags": [*TAGS, *([f"base_model:adapter:{base}"] if on_hub else [])],
    }
    if record.measured and not record.on_invented:  # no result that others could take for a task's
        content["model-index"] = [{"name": release.name, "results": [_result(record)]}]
    return content


def _result(record: CardRecord) -> dict[str, Any]:
    behaviour = record.behaviour
    own = record.own_column
    count = f"{behaviour.samples:,} held-out samples"
    metrics = [{"type": "accuracy", "value": behaviour.accuracy[own], "name": f"Accuracy on {count}"}]
    if own in behaviour.agreement:
        agreement = behaviour.agreement[own]
        name = f"Agreement with the source LoRA on {count}"
        metrics.append({"type": "agreement", "value": agreement, "name": name})
    arguments: dict[str, Any] = {"samples": behaviour.samples}
    if behaviour.data_sha256:
        arguments["sha256"] = behaviour.data_sha256
    return {
        "task": {"type": "text-generation", "name": "Text Generation"},
        "dataset": {
            "type": f"{record.release.name}-held-out",
            "name": f"{record.release.name}: the author's held-out samples, not a public benchmark",
            "args": arguments,
        },
        "metrics": metrics,
    }
