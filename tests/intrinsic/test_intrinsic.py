import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel as PydanticModel

import zoo
from tests.conftest import INVOCATION_TEXT
from tests.intrinsic.conftest import ASK, LIKELIHOOD, YES_NO, MakeRelease, write_io
from tests.intrinsic.test_refusals import HOLDS
from zoo.errors import ContractError, RefusedError, UsageError, ZooError
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.intrinsic import find_base
from zoo.models import BaseModel, load_model
from zoo.specs.release import Position

SHORT = {"parameters": {"max_completion_tokens": 8}}


def peft_logits(base: BaseModel, folder: Path, ids: Sequence[int], *, plain: bool = False) -> torch.Tensor:
    """The next token's logits, float32 `[vocabulary]`, by PEFT over the whole prompt."""
    from peft import LoraConfig, PeftModel

    config: Any = LoraConfig.from_pretrained(str(folder))
    if plain:
        config.alora_invocation_tokens = None
    model = PeftModel.from_pretrained(load_model(base), str(folder), config=config).eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
    return logits


def greedy(
    count: int, base: BaseModel, folder: Path, prompt: Sequence[int], *, plain: bool = False
) -> list[int]:
    """The first `count` tokens PEFT answers, each by a whole pass over what came before."""
    ids: list[int] = []
    for _ in range(count):
        ids.append(int(peft_logits(base, folder, [*prompt, *ids], plain=plain).argmax()))
    return ids


def test_the_front_door_has_it() -> None:
    assert zoo.Intrinsic is Intrinsic


def test_a_free_reply_is_pefts(make_release: MakeRelease, shared: SharedBase, tiny_base: BaseModel) -> None:
    folder = make_release(strength=2.0)
    intrinsic = Intrinsic.load(folder, shared=shared)
    answer = intrinsic.ask({"messages": ASK, "max_tokens": 6})
    _, prompt = intrinsic.prompt({"messages": ASK}, {})
    wanted = greedy(len(answer.ids), tiny_base, folder, prompt.ids)
    assert list(answer.ids) == wanted
    assert answer.result == answer.text == intrinsic.speaker.prompter.tokenizer.decode(wanted)
    assert (answer.prefix_tokens, answer.suffix_tokens) == (prompt.start, len(intrinsic.invocation.ids))
    # the control: the same weights on every token answer otherwise. Not of one token alone: random
    # weights are drawn with other last bits on another CPU, and two answers may begin alike.
    assert greedy(len(wanted), tiny_base, folder, prompt.ids, plain=True) != wanted


def test_a_likelihood_is_that_of_pefts_logits(yes_no: Intrinsic, tiny_base: BaseModel) -> None:
    answer = yes_no.raw(ASK)
    said = json.loads(answer.text)["answer"]
    _, prompt = yes_no.prompt({"messages": ASK}, {})
    tokenizer = yes_no.speaker.prompter.tokenizer
    texts = [tokenizer.decode([id]) for id in answer.ids]
    place = next(n for n in range(len(texts)) if "".join(texts[: n + 1]).startswith('{"answer": "' + said[0]))
    logits = peft_logits(tiny_base, yes_no.repo.root, [*prompt.ids, *answer.ids[:place]])
    # one token may end the quote before it: what may come next, found without the grammar's library
    open_ = '{"answer": "'.removeprefix("".join(texts[:place]))
    starts = {
        id: word
        for id in range(tokenizer.get_vocab_size())
        for word in ("yes", "no")
        if (text := tokenizer.decode([id]))
        and len(text) > len(open_)
        and f'{open_}{word}"}}'.startswith(text)
    }
    odds = torch.softmax(logits[list(starts)], dim=-1)
    wanted = sum(float(p) for p, word in zip(odds, starts.values(), strict=True) if word == "yes")
    assert answer.result == {"answer": pytest.approx(wanted, abs=1e-4)}
    assert 0.001 < wanted < 0.999  # else every way of counting would agree


def test_the_token_that_ends_a_reply_decides_between_numbers_that_begin_alike(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    """1 and 10 differ in whether the reply ends behind the 1; the value is one, whichever was sampled."""
    folder = make_release()
    (folder / "io.yaml").write_text(
        "model: null\nresponse_format: {type: integer, enum: [1, 10]}\nparameters: {temperature: 2.0}\n"
        "transformations: [{type: likelihood, categories_to_values: {1: 0.0, 10: 1.0}}]\n"
    )
    intrinsic = Intrinsic.load(folder, shared=shared)
    found: dict[str, set[float]] = {}
    torch.manual_seed(0)
    for _ in range(40):
        answer = intrinsic.raw(ASK)
        found.setdefault(answer.text, set()).add(round(answer.result, 4))
    assert found.keys() == {"1", "10"}
    one, ten = max(found["1"]), max(found["10"])
    assert one == pytest.approx(ten, abs=2e-4)
    assert 0.001 < one < 0.999


def test_the_result_is_an_object_of_the_schema(yes_no: Intrinsic) -> None:
    result = yes_no(ASK)
    assert isinstance(result, yes_no.model)
    assert isinstance(result, PydanticModel)
    assert result.model_dump() == yes_no.raw(ASK).result
    assert list(yes_no.model.model_fields) == ["answer"]
    assert yes_no.model.__name__ == "Relevance"


def test_scalars_and_texts_are_root_models(make_release: MakeRelease, shared: SharedBase) -> None:
    number = Intrinsic.load(
        make_release("number", io={"response_format": {"type": "integer", "minimum": 0, "maximum": 9}}),
        shared=shared,
    )
    root = number(ASK).model_dump()
    assert isinstance(root, int)
    assert 0 <= root <= 9
    text = Intrinsic.load(make_release("text"), shared=shared)
    assert isinstance(text(ASK).model_dump(), str)
    assert any("no io.yaml" in note for note in text.notes)


def test_a_second_question_reads_only_what_is_new(yes_no: Intrinsic, tiny_base: BaseModel) -> None:
    fresh = SharedBase(tiny_base, yes_no.shared.model)
    mine = Intrinsic(yes_no.repo, fresh)
    history = [*ASK, {"role": "assistant", "content": "the passage answers the question " * 20}]
    first, second = ([*history, {"role": "user", "content": text}] for text in ("yes?", "no, why?"))
    read: list[int] = []
    hook = fresh.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    mine.raw(first)
    continued = mine.raw(second)
    hook.remove()
    assert read[0] > 100
    assert max(read[1:]) < 30
    alone = Intrinsic(yes_no.repo, SharedBase(tiny_base, yes_no.shared.model)).raw(second)
    assert (continued.text, continued.ids) == (alone.text, alone.ids)
    assert continued.result["answer"] == pytest.approx(alone.result["answer"], abs=1e-5)


def test_several_share_a_base_and_answer_as_they_would_alone(
    make_release: MakeRelease, shared: SharedBase, tiny_base: BaseModel
) -> None:
    folders = [make_release("one", strength=2.0), make_release("two", io={"response_format": YES_NO})]
    together = [Intrinsic.load(folder, shared=shared) for folder in folders]
    request = {"messages": ASK, "max_tokens": 40}
    alone = [Intrinsic.load(folder, base=str(tiny_base.folder)) for folder in folders]
    for mine, lonely in zip([*together, *together], [*alone, *alone], strict=True):
        assert mine.ask(request).text == lonely.ask(request).text
    assert together[0].speaker.language is together[1].speaker.language


def test_the_request_and_its_parts_are_left_alone(yes_no: Intrinsic) -> None:
    request = {"messages": [dict(one) for one in ASK]}
    before = json.dumps(request)
    yes_no.ask(request)
    assert json.dumps(request) == before


def test_a_reply_streams_in_pieces_that_make_up_its_text(yes_no: Intrinsic) -> None:
    wanted, ended = yes_no.raw(ASK), []

    def through() -> Iterator[str]:
        ended.append((yield from yes_no.stream(ASK)))

    pieces = list(through())
    assert len(pieces) > 1
    assert "".join(pieces) == wanted.text
    assert ended[0].result == wanted.result


def test_a_closed_stream_stops_and_lets_others_speak(make_release: MakeRelease, shared: SharedBase) -> None:
    intrinsic = Intrinsic.load(make_release(strength=2.0), shared=shared)
    whole = intrinsic.ask({"messages": ASK, "max_tokens": 40})
    stream = intrinsic.stream(ASK)
    first = next(stream)
    stream.close()
    assert whole.text.startswith(first)
    assert not intrinsic.speaker.language.turn.locked()
    assert intrinsic.ask({"messages": ASK, "max_tokens": 40}).text == whole.text


def test_a_streams_error_comes_where_it_is_read(yes_no: Intrinsic) -> None:
    with pytest.raises(ContractError) as caught:
        list(yes_no.stream([]))
    assert caught.value.code == "ZO151"


def test_an_invocation_in_the_last_message_may_be_the_callers_own(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    folder = make_release(position=Position.IN_MESSAGE)
    own = Intrinsic.load(folder, shared=shared)
    asked = {"messages": [{"role": "user", "content": f"{INVOCATION_TEXT}is it relevant?"}], "max_tokens": 2}
    assert own.ask(asked).suffix_tokens > len(own.invocation.ids)
    with pytest.raises(RefusedError) as caught:
        own.ask({"messages": ASK})
    assert caught.value.code == "ZI004"
    with pytest.raises(ContractError) as held:
        own.ask({"messages": [*HOLDS, *ASK]})
    assert held.value.code == "ZO152"
    write_io(folder, instruction=f"{INVOCATION_TEXT}Does {{thing}} matter?")
    written = Intrinsic.load(folder, shared=shared)
    short = {"messages": ASK, "max_tokens": 2}
    assert "Does it matter?" in written.prompt(short, {"thing": "it"})[1].text
    for request, arguments in ((asked, {"thing": "it"}), (short, {"thing": INVOCATION_TEXT})):
        with pytest.raises(ContractError) as again:
            written.ask(request, arguments)
        assert again.value.code == "ZO152"


def test_a_generation_prompt_can_be_the_invocation(make_release: MakeRelease, shared: SharedBase) -> None:
    text = "<|im_start|>assistant\n"
    intrinsic = Intrinsic.load(make_release(text=text, position=Position.GENERATION_PROMPT), shared=shared)
    turns = [*ASK, {"role": "assistant", "content": "yes"}, *ASK]  # the history holds it too, and may
    _, prompt = intrinsic.prompt({"messages": turns}, {})
    assert prompt.text.endswith(text)
    assert prompt.suffix == intrinsic.invocation.ids


@pytest.mark.parametrize("position", [Position.AFTER_PROMPT, Position.GENERATION_PROMPT, Position.IN_MESSAGE])
def test_without_a_zoo_yaml_the_place_is_found(
    make_release: MakeRelease, shared: SharedBase, position: Position
) -> None:
    text = "<|im_start|>assistant\n" if position is Position.GENERATION_PROMPT else INVOCATION_TEXT
    io = {"instruction": f"{text}now"} if position is Position.IN_MESSAGE else {}
    folder = make_release(position=position, text=text, io=io)
    stated = Intrinsic.load(folder, shared=shared)
    (folder / "zoo.yaml").unlink()
    found = Intrinsic.load(folder, shared=shared)
    assert found.invocation == stated.invocation
    assert any("no zoo.yaml" in note for note in found.notes)
    assert find_base(found.repo, str(shared.base.folder)).id == shared.base.id


def test_a_plain_lora_and_another_base_are_refused(
    make_release: MakeRelease, shared: SharedBase, tiny_base: BaseModel
) -> None:
    folder = make_release()
    (folder / "zoo.yaml").write_text((folder / "zoo.yaml").read_text().replace("tiny-llama", "other"))
    with pytest.raises(UsageError) as other:
        Intrinsic.load(folder, shared=shared)
    assert other.value.code == "ZO153"
    assert Intrinsic.load(folder, base=str(tiny_base.folder), shared=shared).shared is shared
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"alora_invocation_tokens": None}))
    with pytest.raises(RefusedError) as plain:
        Intrinsic.load(folder, base=str(tiny_base.folder), shared=shared)
    assert plain.value.code == "ZI001"


def test_arguments_are_the_instructions(make_release: MakeRelease, shared: SharedBase) -> None:
    bare = Intrinsic.load(make_release("bare"), shared=shared)
    with pytest.raises(UsageError, match="takes no arguments"):
        bare.raw(ASK, question="?")
    asking = Intrinsic.load(make_release("asking", io=SHORT | {"instruction": "{question}"}), shared=shared)
    with pytest.raises(ZooError) as missing:
        asking.raw(ASK)
    assert missing.value.code == "ZO105"


def test_documents_reach_the_prompt_as_the_contract_says(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    io = {"docs_as_message": "json", "response_format": YES_NO}
    intrinsic = Intrinsic.load(make_release(io=io), shared=shared)
    request = {"messages": ASK, "extra_body": {"documents": [{"text": "a relevant passage"}]}}
    assert "a relevant passage" in intrinsic.prompt(request, {})[1].text
    assert intrinsic.raw(ASK, ["a relevant passage"]).prefix_tokens > intrinsic.raw(ASK).prefix_tokens


def test_free_blanks_are_the_adapters_choice(make_release: MakeRelease, shared: SharedBase) -> None:
    folder = make_release(io={"response_format": YES_NO, "transformations": LIKELIHOOD})
    fixed = Intrinsic.load(folder, shared=shared).raw(ASK)
    assert fixed.text == json.dumps(json.loads(fixed.text))
    free = Intrinsic.load(folder, shared=shared, free_blanks=True).raw(ASK)
    assert json.loads(free.text).keys() == json.loads(fixed.text).keys()
    assert free.text != fixed.text  # a random model writes other blanks


def test_keywords_that_do_not_steer_are_told_and_checked(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    schema = {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 1},
        "minItems": 2,
        "maxItems": 2,
        "uniqueItems": True,
    }
    intrinsic = Intrinsic.load(make_release(io={"response_format": schema}), shared=shared)
    assert any("uniqueItems" in note for note in intrinsic.notes)
    with pytest.raises(ContractError) as caught:
        intrinsic.raw(ASK)
    assert caught.value.code.startswith("ZO12")


def test_an_invocation_that_stands_only_earlier_is_refused(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    folder = make_release(text="<|im_start|>user\n", position=Position.GENERATION_PROMPT)
    with pytest.raises(RefusedError, match="does not end the prompt") as caught:
        Intrinsic.load(folder, shared=shared).raw(ASK)
    assert caught.value.code == "ZI004"
