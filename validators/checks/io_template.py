"""Checks ZO023 and ZO024: the instruction of an `io.yaml`."""

from collections.abc import Iterator

from zoo.report import Finding, Severity
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.contract import contract_of, without_io
from zoo.validators.places import in_io

INSTRUCTION = ("instruction",)


def _plain(context: Context) -> Iterator[Finding | Measurement]:
    from zoo.specs.io_template import TemplateError, read_template

    found = contract_of(context)
    try:
        template = read_template(found.spec.instruction or "")
    except TemplateError as error:
        yield Finding(
            message=f"the instruction cannot be filled in: {error}",
            location=in_io(found, INSTRUCTION),
            fix="fields are {name}; braces that are text are doubled",
        )
        return
    yield Measurement(name="arguments", value=", ".join(template.arguments) or "none")


def _agrees(context: Context) -> Iterator[Finding]:
    from zoo.specs.io_template import disagreements, keys_of, read_template, shown_keys, shown_values
    from zoo.specs.json_shape import Anything, shape_of

    found = contract_of(context)
    text = read_template(found.spec.instruction or "").text
    shape = shape_of(found.spec.reply_schema)
    known = keys_of(shape)
    if isinstance(shape, Anything) or known is None:
        return
    for key in shown_keys(text):
        if key not in known:
            yield Finding(
                message=f"the instruction tells the model to write the key {key!r}, and the schema has "
                f"{', '.join(sorted(known)) or 'no keys'}",
                severity=Severity.WARNING,
                location=in_io(found, INSTRUCTION),
                fix="one of the two is wrong: the schema is what a server enforces",
            )
    for example in shown_values(text):
        for value in disagreements(example, shape):
            yield Finding(
                message=f"the instruction shows the value {value}, which the schema does not allow",
                severity=Severity.WARNING,
                location=in_io(found, INSTRUCTION),
                fix="one of the two is wrong: the schema is what a server enforces",
            )


def _no_instruction(context: Context) -> str:
    if reason := without_io(context):
        return reason
    spec = context.repo.io_spec
    return "" if spec is None or spec.instruction is not None else "io.yaml has no instruction"


TEMPLATE_CHECKS = (
    Check(code="ZO023", title="The instruction can be filled in", run=_plain, requires=("ZO020",),
          unless=_no_instruction),
    Check(code="ZO024", title="The instruction and the schema name the same keys", run=_agrees,
          requires=("ZO023",), unless=_no_instruction),
)  # fmt: skip
