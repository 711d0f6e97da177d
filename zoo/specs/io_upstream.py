"""Which of the two upstream programs would load an `io.yaml`, and why not.

Both read a file twice, once to rewrite requests and once to process replies, and each reading checks its
half; a file counts as loaded here when both do. Rules read from granite-common 0.4.1 and mellea 0.8.0,
`intrinsics/{constants,util,input,output}.py`.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

Upstream = Literal["granite-common 0.4.1", "mellea 0.8.0"]
UPSTREAMS: tuple[Upstream, ...] = ("granite-common 0.4.1", "mellea 0.8.0")
REQUIRED = ("model", "response_format", "transformations")
OPTIONAL = ("logprobs_workaround", "docs_as_message", "instruction", "parameters", "sentence_boundaries")
# parameters of each transformation's constructor: name to whether it must be there
PARAMETERS: Mapping[str, Mapping[str, bool]] = {
    "likelihood": {"categories_to_values": False},
    "decode_sentences": {"source": True, "output_names": True},
    "explode": {"target_field": True},
    "drop_duplicates": {"target_fields": True},
    "project": {"retained_fields": True},
    "nest": {"field_name": True},
    "merge_spans": {"group_fields": True, "begin_field": True, "end_field": True, "text_field": False},
}


def refusal(raw: Mapping[str, Any], upstream: Upstream) -> str:
    """Why a program refuses a file, or an empty string when it loads it.

    Args:
        raw: what the file says, as a YAML reader gives it.
        upstream: the program.
    """
    new = upstream.startswith("mellea")
    known = {*REQUIRED, *OPTIONAL, *(("name",) if new else ())}
    for name in REQUIRED:
        if name not in raw:
            return f"the field {name} is missing (it may be null)"
    for name in raw:
        if name not in known:
            return f"it does not know the field {name}"
    schema = raw["response_format"]
    if isinstance(schema, str) and schema:
        try:
            json.loads(schema)
        except ValueError:
            return "response_format is not JSON"
    return _settings(raw, new) or _rules(raw, new)


def _settings(raw: Mapping[str, Any], new: bool) -> str:
    parameters = raw.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        return "parameters is not a mapping"
    if not isinstance((parameters or {}).get("extra_body", {}), dict):
        return "parameters.extra_body is not a mapping"
    boundaries = raw.get("sentence_boundaries")
    if boundaries and not isinstance(boundaries, dict):
        return "sentence_boundaries is not a mapping"
    places = ("last_message", "documents", *(("all_but_last_message",) if new else ()))
    for place, tag in (boundaries or {}).items():
        if place not in places:
            return f"it does not number sentences in {place}"
        if not isinstance(tag, str):
            return f"the tag for {place} is not a string"
    how = raw.get("docs_as_message")
    if how and how not in ("string", "json", "roles"):
        return f"it does not know docs_as_message {how}"
    return ""


def _rules(raw: Mapping[str, Any], new: bool) -> str:
    for index, rule in enumerate(raw["transformations"] or ()):
        if reason := _rule(rule, raw, new):
            return f"transformation {index}: {reason}"
    return ""


def _rule(rule: Any, raw: Mapping[str, Any], new: bool) -> str:
    if not isinstance(rule, dict) or rule.get("type") not in PARAMETERS:
        return "it does not know the type"
    if "input_path" not in rule:
        return "input_path is missing"
    wanted = PARAMETERS[rule["type"]]
    for name in rule:
        if name not in ("type", "input_path", *wanted):
            return f"it does not know the parameter {name}"
    for name, needed in wanted.items():
        if needed and name not in rule:
            return f"{name} is missing"
    return _decoding(rule, raw, new) if rule["type"] == "decode_sentences" else _types(rule)


def _types(rule: Mapping[str, Any]) -> str:
    """The constructors that look at what they are given."""
    match rule["type"]:
        case "project" if not isinstance(rule["retained_fields"], list | dict):
            return "retained_fields is neither a list nor a mapping"
        case "nest" if not isinstance(rule["field_name"], str):
            return "field_name is not a string"
        case "merge_spans" if not isinstance(rule["group_fields"], list):
            return "group_fields is not a list"
    for name in ("begin_field", "end_field", "text_field"):
        if rule.get(name) is not None and not isinstance(rule[name], str):
            return f"{name} is not a string"
    return ""


def _decoding(rule: Mapping[str, Any], raw: Mapping[str, Any], new: bool) -> str:
    source = rule["source"]
    sources = source if new and isinstance(source, list) else [source]
    places = ("last_message", "documents", *(("all_but_last_message",) if new else ()))
    for one in sources:
        if one not in places:
            return f"it does not decode sentences from {one}"
    if not isinstance(rule["output_names"], dict):
        return "output_names is not a mapping"
    for role in rule["output_names"]:
        if (role == "document_id" and "documents" in sources) or (
            role == "message_index" and "all_but_last_message" in sources
        ):
            continue
        if role not in ("begin", "end", "text"):
            return f"it does not know the output {role} here"
    if raw.get("docs_as_message") and raw["docs_as_message"] not in ("json", "roles"):
        return f"it does not decode sentences with docs_as_message {raw['docs_as_message']}"
    return ""
