"""What the Hub demands of a README's front matter, as far as it is documented.

The rules are the Hub's; this list of them is not complete. Source: the Hub's documentation of model cards,
the metadata template in huggingface/hub-docs (`modelcard.md`), and the client's `EvalResult`, whose required
fields these are.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_LICENSE_IDS = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-
rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-
by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-
nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license
ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl
gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2
llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = frozenset(_LICENSE_IDS.split())
RELATIONS = frozenset({"adapter", "finetune", "merge", "quantized"})

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_REPO_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual")


def front_matter(content: str) -> dict[str, Any] | None:
    """Return a README's metadata, or None if it has none or they cannot be read."""
    found = _FRONT_MATTER.match(content)
    try:
        data = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError:
        return None
    return data if isinstance(data, dict) else None


def problems(content: str) -> tuple[list[str], list[str]]:
    """Return (errors, warnings) about a README. Errors keep it from being committed."""
    found = _FRONT_MATTER.match(content)
    if found is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(found.group(1))
    except yaml.YAMLError as error:
        return [f"the metadata is not YAML: {' '.join(str(error).split())}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["the metadata is not a mapping"], []
    return [
        *_license_problems(data),
        *_base_model_problems(data),
        *_list_problems(data),
        *_model_index_problems(data.get("model-index", [])),
    ], []


def tags(data: dict[str, Any]) -> list[str]:
    """Return the tags that the Hub shows: the card's own and those that it derives from other fields."""
    own = data.get("tags")
    found = [str(tag) for tag in own] if isinstance(own, list) else []
    bases = _as_list(data.get("base_model"))
    relation = data.get("base_model_relation")
    found += [f"base_model:{base}" for base in bases]
    found += [f"base_model:{relation}:{base}" for base in bases if relation]
    found += [f"license:{one}" for one in _as_list(data.get("license"))]
    found += [f"dataset:{one}" for one in _as_list(data.get("datasets"))]
    found += [str(data[key]) for key in ("library_name", "pipeline_tag") if data.get(key)]
    return list(dict.fromkeys(found))


def _license_problems(data: dict[str, Any]) -> Iterator[str]:
    names = _as_list(data.get("license"))
    for name in names:
        if name not in LICENSES:
            yield f'"license" is {name!r}, which is none of the Hub\'s identifiers'
    if "other" in names and not data.get("license_name"):
        yield '"license_name" is required when "license" is "other"'
    if "other" in names and not data.get("license_link"):
        yield '"license_link" is required when "license" is "other"'


def _base_model_problems(data: dict[str, Any]) -> Iterator[str]:
    for base in _as_list(data.get("base_model")):
        if not isinstance(base, str) or not _REPO_ID.fullmatch(base):
            yield f'"base_model" with value "{base}" is not valid. Use the id of a model on the Hub.'
    relation = data.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        yield f'"base_model_relation" must be one of {", ".join(sorted(RELATIONS))}'


def _list_problems(data: dict[str, Any]) -> Iterator[str]:
    for one in _as_list(data.get("language")):
        if not isinstance(one, str) or not _LANGUAGE.fullmatch(one):
            yield f'"language" {one!r} is no ISO 639 code'
    for one in _as_list(data.get("datasets")):
        if not isinstance(one, str) or not _REPO_ID.fullmatch(one):
            yield f'"datasets" {one!r} is no id of a data set on the Hub'
    own = data.get("tags", [])
    if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
        yield '"tags" must be a list of strings'
    for key in ("library_name", "pipeline_tag"):
        if not isinstance(data.get(key, ""), str):
            yield f'"{key}" must be a string'


def _model_index_problems(index: object) -> Iterator[str]:
    if not isinstance(index, list):
        yield '"model-index" must be a list'
        return
    for number, model in enumerate(index):
        where = f"model-index[{number}]"
        yield from _missing(model, where, "name", "results")
        results = model.get("results") if isinstance(model, dict) else None
        if results is not None and not isinstance(results, list):
            yield f'"{where}.results" must be a list'
        for position, result in enumerate(results if isinstance(results, list) else []):
            yield from _result_problems(result, f"{where}.results[{position}]")


def _result_problems(result: object, where: str) -> Iterator[str]:
    yield from _missing(result, where, "task", "dataset", "metrics")
    if not isinstance(result, dict):
        return
    if "task" in result:
        yield from _missing(result["task"], f"{where}.task", "type")
    if "dataset" in result:
        yield from _missing(result["dataset"], f"{where}.dataset", "type", "name")
    for position, metric in enumerate(_as_list(result.get("metrics"))):
        yield from _missing(metric, f"{where}.metrics[{position}]", "type", "value")


def _missing(value: object, where: str, *keys: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f'"{where}" must be a mapping'
        return
    for key in keys:
        if value.get(key) is None:
            yield f'"{where}.{key}" is required'


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
