"""Ways to break a release, each with the code that has to flag it.

Every mutation leaves a release that is otherwise in order (its lock is written again), so that the code that
flags it is the one for that fault, and not the digest check.
"""

from collections.abc import Mapping

from tests.validators.changes import (
    WEIGHTS,
    Breakage,
    _no_tokenizer,
    _other_tokenizer_config,
    _regex,
    _remove,
    both,
    config,
    config_text,
    file,
    infinite_half,
    integers,
    invocation,
    licensed,
    link,
    lock,
    merged,
    not_a_number,
    old_spelling,
    other_environment,
    renamed_pickle,
    renamed_torch_file,
    samples,
    second_name,
    silent,
    spec,
    template,
    tokenizer_that_cuts,
    truncated,
    weights,
    wider,
    with_embedding,
    without,
    without_module,
)
from zoo.report import Severity

TOKEN = "hf_" + "aB3" * 11  # the shape of a Hub token, and nobody's
WARNING, INFO = Severity.WARNING, Severity.INFO

BREAKAGES: Mapping[str, Breakage] = {
    "python file": Breakage(mutate=file("modeling.py", b"print()"), code="ZF001"),
    "pickle of weights": Breakage(
        mutate=file("adapter_model.bin", b"\x80\x02."), code="ZF001", also=frozenset({"ZF003"})
    ),
    "training debris": Breakage(mutate=file("trainer_state.json", b"{}"), code="ZF001"),
    "unknown file": Breakage(mutate=file("data.csv", b"a,b\n"), code="ZF001"),
    "unknown folder": Breakage(mutate=file("checkpoint-10/README.md", b"x"), code="ZF001"),
    "symbolic link": Breakage(mutate=link, code="ZF002"),
    "backslash in a name": Breakage(mutate=file("a\\..\\b.md", b"x"), code="ZF002"),
    "names that differ in case": Breakage(
        mutate=both(file("Notes.md", b"x"), file("NOTES.md", b"x")), code="ZF002"
    ),
    "pickle renamed": Breakage(mutate=renamed_pickle, code="ZF003"),
    "torch file renamed": Breakage(mutate=renamed_torch_file, code="ZF003"),
    "truncated weights": Breakage(mutate=truncated, code="ZF003"),
    "no weights": Breakage(mutate=_remove(WEIGHTS), code="ZF003"),
    "text that is none": Breakage(mutate=file("NOTES.md", b"\xff\xfe\x00\x00"), code="ZF003"),
    "picture that is none": Breakage(mutate=file("images/plot.png", b"<svg>"), code="ZF003"),
    "huge document": Breakage(mutate=file("NOTES.md", b"x" * 4_100_000), code="ZF004"),
    "secret": Breakage(mutate=file("NOTES.md", f"login with\n{TOKEN}\n".encode()), code="ZF005"),
    "huge r": Breakage(mutate=config(r=10_000_000), code="ZC001"),
    "huge r for one module": Breakage(mutate=config(rank_pattern={"q_proj": 5_000_000}), code="ZC001"),
    "a key twice": Breakage(mutate=config_text('"r": 4', '"r": 4, "r": 4'), code="ZC001"),
    "alpha is no number": Breakage(mutate=config(lora_alpha=float("nan")), code="ZC001"),
    "negative ids": Breakage(mutate=config(alora_invocation_tokens=[-1]), code="ZC001"),
    "no task type": Breakage(mutate=config(task_type=None), code="ZC002"),
    "another PEFT type": Breakage(mutate=config(peft_type="IA3"), code="ZC002"),
    "bias": Breakage(mutate=config(bias="all"), code="ZC003"),
    "modules to save": Breakage(mutate=config(modules_to_save=["lm_head"]), code="ZC004"),
    "trained tokens": Breakage(mutate=config(trainable_token_indices=[5]), code="ZC004"),
    "DoRA": Breakage(mutate=config(use_dora=True), code="ZC005"),
    "KaSA": Breakage(mutate=config(kasa_config={"beta": 1}), code="ZC005"),
    "PiSSA": Breakage(mutate=config(init_lora_weights="pissa_niter_4"), code="ZC006"),
    "replicated layers": Breakage(mutate=config(layer_replication=[[0, 2]] * 2000), code="ZC006"),
    "alpha is not r": Breakage(mutate=config(lora_alpha=8), code="ZC007", severity=WARNING),
    "rsLoRA": Breakage(mutate=config(use_rslora=True), code="ZC007", severity=WARNING),
    "hostile expression": Breakage(mutate=_regex, code="ZC008"),
    "hostile pattern": Breakage(
        mutate=config(rank_pattern={"(.*)*x": 4}), code="ZC008", also=frozenset({"ZC007"})
    ),
    "no targets": Breakage(mutate=config(target_modules=None), code="ZC008"),
    "unknown key": Breakage(mutate=config(alora_mode="late"), code="ZC009", severity=INFO),
    "another base": Breakage(
        mutate=config(base_model_name_or_path="org/other"), code="ZC010", also=frozenset({"ZM002"})
    ),
    "base is a path": Breakage(
        mutate=config(base_model_name_or_path="../../etc"),
        code="ZC012",
        also=frozenset({"ZC010", "ZM002"}),
    ),
    "address in the config": Breakage(mutate=config(eva_config={"a": ["https://example.org"]}), code="ZC012"),
    "class to import": Breakage(
        mutate=config(auto_mapping={"base_model_class": "X", "parent_library": "evil"}), code="ZC011"
    ),
    "module to import": Breakage(mutate=config(megatron_core="evil"), code="ZC011"),
    "bad YAML": Breakage(mutate=file("zoo.yaml", b"name: [unclosed"), code="ZM001"),
    "misspelt key": Breakage(mutate=spec(licence="mit"), code="ZM001"),
    "no zoo.yaml": Breakage(mutate=_remove("zoo.yaml"), code="ZM001"),
    "two bases": Breakage(mutate=spec(base={"id": "org/other"}), code="ZM002"),
    "licence that the base rules out": Breakage(
        mutate=both(licensed("llama3.1"), spec(license="mit")), code="ZM003"
    ),
    "licence of its own": Breakage(
        mutate=both(licensed("llama3.1"), spec(license="other")), code="ZM003", severity=WARNING
    ),
    "script in the description": Breakage(mutate=spec(description="<script>x()</script>"), code="ZM004"),
    "second name of a file": Breakage(mutate=second_name, code="ZF002"),
    "skip of no check": Breakage(
        mutate=spec(gate={"allowed_skips": {"ZX999": "because"}}), code="ZM002", severity=WARNING
    ),
    "no lock": Breakage(mutate=_remove("zoo.lock.json"), code="ZL001", locks=False),
    "damaged lock": Breakage(mutate=file("zoo.lock.json", b'{"format": 1}'), code="ZL001", locks=False),
    "changed weights": Breakage(
        mutate=weights(infinite_half), code="ZL002", also=frozenset({"ZW001"}), locks=False
    ),
    "author's file that is not recorded": Breakage(
        mutate=file("NOTES.md", b"x"), code="ZL002", locks=False, severity=INFO
    ),
    "file that is gone": Breakage(
        mutate=lock(lambda content: content["files"].update({"conformance.safetensors": "0" * 64})),
        code="ZL002",
        locks=False,
    ),
    "another tokenizer config": Breakage(mutate=lock(_other_tokenizer_config), code="ZL003", locks=False),
    "another tokenizer": Breakage(mutate=lock(_no_tokenizer), code="ZL003", locks=False),
    "another template": Breakage(
        mutate=template("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"),
        code="ZL003",
        locks=False,
    ),
    "NaN": Breakage(mutate=weights(not_a_number), code="ZW001"),
    "infinite bfloat16": Breakage(mutate=weights(infinite_half), code="ZW001"),
    "integer weights": Breakage(mutate=weights(integers), code="ZW001"),
    "missing tensor": Breakage(mutate=weights(without("B")), code="ZW002"),
    "missing A": Breakage(mutate=weights(without("A")), code="ZW002"),
    "target without tensors": Breakage(
        mutate=config(target_modules=["q_proj", "k_proj", "v_proj", "x_proj"]), code="ZW002"
    ),
    "wrong rank": Breakage(mutate=config(r=8, lora_alpha=8), code="ZW003"),
    "embedding": Breakage(mutate=weights(with_embedding), code="ZW004"),
    "old spelling": Breakage(mutate=weights(old_spelling), code="ZW004"),
    "tensors without target": Breakage(mutate=config(target_modules=["q_proj", "k_proj"]), code="ZW004"),
    "untrained": Breakage(mutate=weights(silent), code="ZW005"),
    "missing module": Breakage(mutate=weights(without_module), code="ZW006"),
    "wrong shape": Breakage(mutate=weights(wider), code="ZW007"),
    "plain LoRA without ids": Breakage(mutate=config(alora_invocation_tokens=None), code="ZI001"),
    "empty ids": Breakage(mutate=config(alora_invocation_tokens=[]), code="ZI001"),
    "ids of another tokenizer": Breakage(mutate=config(alora_invocation_tokens=[1, 10**9]), code="ZI002"),
    "wrong ids": Breakage(mutate=config(alora_invocation_tokens=[1, 40, 41]), code="ZI003"),
    "ids that only occur merged": Breakage(mutate=merged, code="ZI004"),
    "wrong position": Breakage(
        mutate=spec(invocation={"text": "<|im_start|>check\n", "position": "generation_prompt"}), code="ZI004"
    ),
    "tokens at a boundary": Breakage(
        mutate=invocation("<check>", "in_message"), code="ZI005", also=frozenset({"ZI008"})
    ),
    "ends in padding": Breakage(mutate=invocation("<|im_start|>check<|endoftext|>"), code="ZI006"),
    "last id twice": Breakage(
        mutate=invocation("<|im_start|>check<|im_start|>"), code="ZI007", severity=WARNING
    ),
    "inside a message": Breakage(
        mutate=invocation("<|im_start|>check<|im_end|>", "in_message"), code="ZI008", severity=WARNING
    ),
    "published requirement": Breakage(
        mutate=both(invocation("<requirements>", "in_message"), samples("Is it polite?\n<requirements>: X")),
        code="ZI004",
        also=frozenset({"ZI005"}),
    ),
    "sample that writes it twice": Breakage(
        mutate=samples("What does <|im_start|>check\n do?"), code="ZI004", severity=WARNING
    ),
    "sample longer than the context": Breakage(mutate=samples("yes no " * 2000), code="ZI009"),
    "sample that pushes it out of the context": Breakage(
        mutate=both(
            invocation("<|im_start|>check<|im_end|>", "in_message"),
            samples("<|im_start|>check<|im_end|>" + "yes no " * 2000),
        ),
        code="ZI009",
        also=frozenset({"ZI008"}),
    ),
    "sample with text behind it": Breakage(
        mutate=both(
            invocation("<|im_start|>check<|im_end|>", "in_message"),
            samples("<|im_start|>check<|im_end|>" + "yes no " * 20),
        ),
        code="ZI009",
        severity=WARNING,
        also=frozenset({"ZI008"}),
    ),
    "tokenizer that cuts": Breakage(mutate=tokenizer_that_cuts, code="ZI009", severity=WARNING),
    "everyday words": Breakage(mutate=invocation("Answer:"), code="ZI010"),
    "a line break": Breakage(
        mutate=invocation("\n", "generation_prompt"), code="ZI010", also=frozenset({"ZI004"})
    ),
    "an article": Breakage(mutate=invocation(" the"), code="ZI010", also=frozenset({"ZI004"})),
    "letters of everyday words": Breakage(
        mutate=invocation("elevant"), code="ZI010", severity=WARNING
    ),
    "another environment": Breakage(
        mutate=other_environment, code="ZT003", environment="other-python"
    ),
    "template that raises": Breakage(mutate=template("{{ raise_exception('no') }}"), code="ZT001"),
    "no template": Breakage(mutate=template(""), code="ZT001"),
    "template of its own": Breakage(
        mutate=file("chat_template.jinja", b"{{ messages }}"), code="ZT002", severity=WARNING
    ),
    "tokenizer with code": Breakage(
        mutate=file("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": "evil.X"}}'),
        code="ZT002",
        also=frozenset({"ZC011"}),
    ),
}  # fmt: skip

# The ten of issue 2, on which main-3 is measured.
TEN = (
    "bias", "wrong ids", "ids that only occur merged", "tokens at a boundary", "NaN", "wrong rank",
    "plain LoRA without ids", "missing tensor", "pickle renamed", "huge r",
)  # fmt: skip
