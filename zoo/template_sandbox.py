"""Renders chat templates in a process of its own, with a limit on time, memory and output.

jinja2's sandbox stops attribute tricks, not nested loops or giant strings, so a template from a
repository is never rendered in the process that holds anything. Run as a script, this file reads one JSON
request from stdin and answers on stdout; `render` is the caller's side. The process is isolated (-I -S): of
what is installed it sees the folders on its command line, which are jinja2's, and it starts in a third of
the time. So nothing of zoo is imported at the top here.
The environment (flags, extensions, filters) is that of transformers 5.23.0,
utils/chat_template_utils.py, `_compile_jinja_template`, so that the text is the same.
"""

import atexit
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from zoo.errors import RefusedError

# What any request may take; a larger one gets more, in proportion to its bytes.
CPU_SECONDS = 4  # some hundred prompts of a real template take a tenth of one
MEMORY_BYTES = 512 << 20
MAX_OUTPUT_BYTES = 2_000_000
BYTES_A_SECOND = 500_000
COPIES = 16  # of a request, in memory
FRAMED = 10  # times what went in comes out: a template frames what it is given
MAX_TEMPLATE_BYTES = 1_000_000
# The first character of each answer of `render_each`, which must stay a list of texts for the cache.
DONE, REFUSED = "=", "!"
_spares: "list[Popen[bytes]]" = []
_calls = 0


def render(template: str, contexts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Renders one template once for each context; what was rendered before is taken from the cache.

    Args:
        template: jinja2 source.
        contexts: variables of each rendering; must be JSON data.

    Returns:
        One text a context.

    Raises:
        RefusedError: ZT001, the template fails, or breaks a limit.
    """
    from zoo.cache import remembered

    _bound(template)
    request = json.dumps({"template": template, "contexts": list(contexts)}).encode()
    if "strftime_now" in template:  # depends on the clock
        return _rendered(request)
    return remembered("renderings", request, lambda: _rendered(request))


def render_each(template: str, contexts: Sequence[Mapping[str, Any]]) -> "list[str | RefusedError]":
    """Renders one template once for each context, and goes on where it refuses one.

    Args:
        template: jinja2 source.
        contexts: variables of each rendering; must be JSON data.

    Returns:
        For each context its text, or the error ZT001 with which the template refused it.

    Raises:
        RefusedError: ZT001, the template breaks a limit or cannot be compiled.
    """
    from zoo.cache import remembered

    _bound(template)
    request = json.dumps({"template": template, "contexts": list(contexts), "each": True}).encode()
    if "strftime_now" in template:  # depends on the clock
        marked = _rendered(request)
    else:
        marked = remembered("renderings", request, lambda: _rendered(request))
    return [_does_not_render(text[1:]) if text[0] == REFUSED else text[1:] for text in marked]


def _rendered(request: bytes) -> list[str]:
    process = _waiting() or _start()
    done = _asked(process, request)
    if process.returncode != 0:
        seconds, memory = _allowance(len(request))
        raise _refused(f"takes more than {seconds} s or {memory >> 20} MiB to render")
    _keep_spare()
    answer = json.loads(done)
    if "error" in answer:
        raise _does_not_render(answer["error"])
    texts: list[str] = answer["texts"]
    return texts


def _asked(process: "Popen[bytes]", request: bytes) -> bytes:
    import subprocess

    try:
        seconds = _allowance(len(request))[0]
        return process.communicate(request, timeout=seconds + 20)[0]  # wall clock, for a busy machine
    except subprocess.TimeoutExpired:
        raise _refused("takes too long to render") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _waiting() -> "Popen[bytes] | None":
    process = _spares.pop() if _spares else None
    if process is None or process.poll() is None:
        return process
    process.communicate()  # it died while it waited; this closes its pipes
    return None


def _keep_spare() -> None:
    """Starts the next process, which imports jinja2 and waits, while the caller does something else.

    Every request still gets a process of its own. A program that renders once starts one only.
    """
    global _calls
    _calls += 1
    if _calls > 1 and not _spares:
        _spares.append(_start())


def _start() -> "Popen[bytes]":
    import subprocess

    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *_template_engine()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )


@atexit.register
def _end_spares() -> None:
    while _spares:
        process = _spares.pop()
        process.kill()
        process.communicate()


def _template_engine() -> list[str]:
    """The folders that hold jinja2 and the one package it needs."""
    from importlib.util import find_spec
    from pathlib import Path

    origins = [spec.origin for name in ("jinja2", "markupsafe") if (spec := find_spec(name)) and spec.origin]
    return sorted({str(Path(origin).parents[1]) for origin in origins})


def _environment() -> dict[str, str]:
    """What an interpreter needs to start, and nothing else: access tokens stand in the environment."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}


def _bound(template: str) -> None:
    if len(template.encode()) > MAX_TEMPLATE_BYTES:
        raise _refused(f"is larger than {MAX_TEMPLATE_BYTES:,} bytes")


def _does_not_render(error: str) -> "RefusedError":
    return _refused(f"does not render: {error}")


def _refused(what: str) -> "RefusedError":
    from zoo.errors import RefusedError

    return RefusedError(
        f"the chat template {what}", code="ZT001", hint="compare it with the base model's own"
    )


def _allowance(size_bytes: int) -> tuple[int, int]:
    """CPU seconds and bytes of memory for a request of some size."""
    return CPU_SECONDS + size_bytes // BYTES_A_SECOND, MEMORY_BYTES + COPIES * size_bytes


def _limit(size_bytes: int) -> None:
    import resource

    seconds, memory = _allowance(size_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):  # macOS refuses RLIMIT_AS
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _serve(
    environment: "ImmutableSandboxedEnvironment", request: Mapping[str, Any], most: int
) -> dict[str, Any]:
    compiled = environment.from_string(request["template"])
    texts, size_bytes = [], 0
    for context in request["contexts"]:
        texts.append(_attempt(compiled, context) if request.get("each") else compiled.render(**context))
        size_bytes += len(texts[-1])
        if size_bytes > most:
            raise ValueError(f"more than {most:,} characters of output")
    return {"texts": texts}


def _attempt(compiled: "Template", context: Mapping[str, Any]) -> str:
    """The text behind `DONE`, or the template's own error behind `REFUSED`."""
    try:
        return DONE + compiled.render(**context)
    except MemoryError:
        raise
    except Exception as error:  # see `main`
        return REFUSED + _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _jinja() -> "ImmutableSandboxedEnvironment":
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks the assistant's words; its body renders as it is."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

        def parse(self, parser: Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            # a call block, as upstream's: what is set inside stays inside
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

        def _body(self, caller: Callable[[], str]) -> str:
            return caller()

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def strftime_now(form: str) -> str:
        from datetime import datetime

        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def main() -> None:
    """Answers one request on stdin; a template's own failure is an answer, not an exit code."""
    sys.path.extend(sys.argv[1:])
    try:
        environment = _jinja()  # before the request is there: a spare waits for one
        raw = sys.stdin.buffer.read()
        _limit(len(raw))
        answer = _serve(environment, json.loads(raw), MAX_OUTPUT_BYTES + FRAMED * len(raw))
    except MemoryError:
        sys.exit(1)
    except Exception as error:  # the template is untrusted: whatever it raises is its own failure
        answer = {"error": _said(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
