"""Checks ZW…: the tensors are finite, complete, of the right shape, and no others."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from zoo.converters.keys import PREFIX, Key, Part, parse_key
from zoo.converters.patterns import resolve_patterns
from zoo.report import Finding, Severity
from zoo.safetensors_header import TensorInfo
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.places import in_weights
from zoo.validators.targets import names_module, shape_in, targeted_modules, targets

LISTED = 5  # findings of one kind that are spelt out
FLOATS = ("F32", "BF16", "F16")
_RESAVE = "save the adapter again with PEFT's save_pretrained"
Factors = Mapping[str, Mapping[Part, TensorInfo]]


def _finite(context: Context) -> Iterator[Finding | Measurement]:
    bad = []
    for name, info in context.repo.tensors.tensors.items():
        count = context.payloads[name].not_finite
        if count is None or info.dtype not in FLOATS:
            bad.append(
                (name, f"{name[:120]} is stored as {info.dtype}, which no engine reads as LoRA weights")
            )
        elif count:
            bad.append(
                (name, f"{name[:120]} has {count:,} of {info.elements:,} numbers that are NaN or infinite")
            )
    yield from _some(bad, fix="take an earlier checkpoint; the training diverged or the file is damaged")
    yield Measurement(name="numbers", value=sum(t.elements for t in context.repo.tensors.tensors.values()))


def _pairs(context: Context) -> Iterator[Finding]:
    factors = _factors(context)
    for path, parts in factors.items():
        for part in (Part.A, Part.B):
            if part not in parts:
                yield Finding(
                    message=f"{path[:160]} has no {part.value}",
                    location=in_weights(f"{PREFIX}{path}.{part.value}.weight"),
                    fix=_RESAVE,
                )
    wanted = context.repo.config.target_modules
    for name in wanted if isinstance(wanted, list) else []:
        if not any(names_module([name], path) for path in factors):
            yield Finding(message=f"target_modules names {name!r}, and there are no tensors for it",
                          location=in_weights(), fix=_RESAVE)  # fmt: skip


def _ranks(context: Context) -> Iterator[Finding | Measurement]:
    config, factors = context.repo.config, _factors(context)
    expected = resolve_patterns(config.rank_pattern, list(factors), config.r)
    bad = []
    for path, parts in factors.items():
        found = {
            part.value: info.shape[0 if part is Part.A else 1] if len(info.shape) == 2 else -1
            for part, info in parts.items()
            if part in (Part.A, Part.B)
        }
        for name, rank in found.items():
            if rank != expected[path]:
                shown = f"rank {rank}" if rank >= 0 else "no rank: it is not a matrix"
                what = f"{path[:160]}.{name} has {shown}; the config says {expected[path]}"
                bad.append((f"{PREFIX}{path}.{name}.weight", what))
    yield from _some(bad, fix="write the rank that the weights have, or save the adapter again")
    yield Measurement(name="modules", value=len(factors))
    yield Measurement(name="rank", value=config.r)


def _expected_only(context: Context) -> Iterator[Finding]:
    config, bad = context.repo.config, []
    for name, key in _keys(context).items():
        if reason := _unexpected(name, key, biases=config.lora_bias):
            bad.append((name, f"{name[:160]!r} {reason}"))
        elif not targets(config, key.path):
            bad.append(
                (name, f"{name[:160]!r} is for a module that the config does not target; PEFT drops it")
            )
    yield from _some(
        bad, fix="save the adapter again with PEFT's save_pretrained; zoo convert reads old spellings"
    )


def _unexpected(name: str, key: Key, *, biases: bool) -> str:
    if not name.isprintable() or len(name) > 512:
        return "is not a tensor's name"
    match key.part:
        case Part.A | Part.B:
            spelt = f"{PREFIX}{key.path}.{key.part.value}.weight"
            return "" if name == spelt else "is an old spelling, which PEFT does not find"
        case Part.BIAS_A | Part.BIAS_B:
            return "" if biases else "is a bias of a factor, which the config does not mention"
        case part:
            return f"is {part.value}, which cannot be gated"


def _acts(context: Context) -> Iterator[Finding | Measurement]:
    names = {path: parts[Part.B].name for path, parts in _factors(context).items() if Part.B in parts}
    zero = [path for path, name in names.items() if context.payloads[name].zero]
    yield Measurement(name="modules_that_act", value=len(names) - len(zero))
    if names and len(zero) == len(names):
        yield Finding(
            message="every lora_B is zero: the adapter does nothing",
            location=in_weights(),
            fix="it is an untrained initialisation; train it, or take the trained checkpoint",
        )
    elif zero:
        yield Finding(
            message=f"lora_B is zero in {len(zero)} of {len(names)} modules, {zero[0][:120]} among them",
            severity=Severity.INFO,
            location=in_weights(names[zero[0]]),
        )


def _complete_on_base(context: Context) -> Iterator[Finding | Measurement]:
    factors, base = _factors(context), context.known_base
    wanted = targeted_modules(context.repo.config, base)
    missing = [path for path in wanted if path not in factors]
    # a checkpoint may leave out the model's outermost name
    missing = [path for path in missing if not any(written.endswith(f".{path}") for written in factors)]
    yield from _some(
        [(f"{PREFIX}{path}.lora_A.weight", f"the config targets {path}, and there are no tensors for it")
         for path in missing],
        fix=_RESAVE,
    )  # fmt: skip
    yield Measurement(name="modules_in_base", value=len(wanted))


def _fits_base(context: Context) -> Iterator[Finding | Measurement]:
    bad, base = [], context.known_base
    for path, parts in _factors(context).items():
        shape = shape_in(base, path)
        if shape is None:
            bad.append((f"{PREFIX}{path}", f"{base.id} has no linear module {path[:160]}"))
            continue
        rows, columns = shape
        for part, index, size, word in ((Part.A, 1, columns, "reads"), (Part.B, 0, rows, "writes")):
            info = parts.get(part)
            if info and (len(info.shape) != 2 or info.shape[index] != size):
                bad.append((info.name, f"{path[:160]}.{part.value} has shape {list(info.shape)}; "
                                       f"{base.id} {word} {size} features there"))  # fmt: skip
    yield from _some(bad, fix="validate with --base and the model that it was trained on")
    yield Measurement(name="base", value=base.id)


def _keys(context: Context) -> dict[str, Key]:
    return {name: parse_key(name) for name in context.repo.tensors.tensors}


def _factors(context: Context) -> Factors:
    """The A and B of each module, whatever their spelling."""
    found: dict[str, dict[Part, TensorInfo]] = defaultdict(dict)
    for name, key in _keys(context).items():
        if key.part in (Part.A, Part.B):
            found[key.path][key.part] = context.repo.tensors.tensors[name]
    return found


def _some(bad: list[tuple[str, str]], *, fix: str) -> Iterator[Finding]:
    """A finding each for the first few, and one for the rest."""
    for name, message in bad[:LISTED]:
        yield Finding(message=message, location=in_weights(name), fix=fix)
    if len(bad) > LISTED:
        yield Finding(message=f"and {len(bad) - LISTED:,} more of the kind", location=in_weights(), fix=fix)


_READ = ("ZC001", "ZF003")
_NAMED = (*_READ, "ZC008")
_BASE = frozenset({Need.BASE})
WEIGHT_CHECKS = (
    Check(code="ZW001", title="Every number is a finite float", run=_finite, requires=_READ),
    Check(code="ZW002", title="Every module has both of its factors", run=_pairs, requires=_NAMED),
    Check(code="ZW003", title="Ranks are those of the config", run=_ranks, requires=_NAMED),
    Check(code="ZW004", title="There are no other tensors", run=_expected_only, requires=_NAMED),
    Check(code="ZW005", title="The adapter does something", run=_acts, requires=_READ),
    Check(code="ZW006", title="Every targeted module has its tensors", run=_complete_on_base, requires=_NAMED,
          needs=_BASE),
    Check(code="ZW007", title="Shapes fit the base model", run=_fits_base, requires=_NAMED, needs=_BASE),
)  # fmt: skip
