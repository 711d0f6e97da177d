"""Chat templates that hang, swell, flood or reach out; the base is what comes with them."""

from tests.security.hostile import Door, Hostile
from tests.validators.changes import template

_EACH = "{% for m in messages %}{{ m.content }}{% endfor %}"
HANGS = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "a giant power": "{{ 10 ** (10 ** 8) }}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a recursive loop": "{% for a in [[1]] recursive %}{{ loop([a, a]) }}{% endfor %}",
    "20 GB of letters": "{{ 'a' * 20000000000 }}",
    "a width of ten billion": "{{ '%9999999999d' | format(1) }}",
    "centred in ten billion": "{{ 'a' | center(9999999999) }}",
    "indented by ten billion": "{{ 'a\\nb' | indent(9999999999) }}",
    "a list of a billion": "{{ [0] * 1000000000 }}",
    "doubling": "{% set ns = namespace(x='a' * 1000) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}{{ ns.x }}",
    "sixty million letters": "{{ 'a ' * 300000 }}" + _EACH,
    "a flood of lines": "{{ ('b' * 90 + '\\n') * 20000 }}" + _EACH,
    "lorem ipsum": "{{ lipsum(n=100000, max=100000) }}",
    "a clock of 100 MB": "{{ strftime_now('%c' * 50000000) }}",
}
ESCAPES = {
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a macro": "{{ lipsum.__globals__['os'].system('touch canary') }}",
    "format reaches out": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "an include": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.environ }}",
    "a list that changes": "{{ messages.append(1) }}",
    "an open block": "{% for m in messages %}",
    "two megabytes of source": "{# " + "x" * 2_000_000 + " #}" + _EACH,
    "50,000 brackets": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
}


def _case(name: str, source: str, family: str, door: Door = Door.VALIDATE) -> Hostile:
    return Hostile(family=family, name=name, code="ZT001", change=template(source), door=door)


TEMPLATES = (
    *(_case(name, source, "template bomb") for name, source in HANGS.items()),
    *(_case(name, source, "template escape") for name, source in ESCAPES.items()),
    _case("nested loops, converted", HANGS["nested loops"], "template bomb", Door.CONVERT),
    _case("20 GB of letters, published", HANGS["20 GB of letters"], "template bomb", Door.PUBLISH),
)
