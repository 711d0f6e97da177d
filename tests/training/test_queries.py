"""Queries in closed form: patterns against transformers' own, what a fit gains, and what it leaves alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.training.test_calibration import build
from zoo.training import calibration, queries
from zoo.training import streams as the_streams
from zoo.training.adapted import everywhere
from zoo.training.attention import packed, shown
from zoo.training.calibration import calibrate
from zoo.training.dataset import Encoded
from zoo.training.exact import Row, Rule
from zoo.training.lines import entered, laid
from zoo.training.prefix import PrefixStore
from zoo.training.queries import Asked, Fit, chances
from zoo.training.residual import blocks_of
from zoo.training.streams import Streams, streams

FAMILIES = ("llama", "qwen2", "granite")


def patterns(model: PeftModel, samples: list[Encoded], *, adapted: bool) -> list[list[torch.Tensor]]:
    """The student's or the teacher's chances, by layer and sample."""
    base: Any = model.get_base_model()
    store = PrefixStore(model, samples, adapted=adapted)
    store.fill()
    found: list[list[torch.Tensor]] = [[] for _ in blocks_of(model)]

    def see(layer: int, query: torch.Tensor, key: torch.Tensor, rule: Rule) -> None:
        for row in rows:
            held = chances(query, key, row, rule, layer)
            assert held is not None
            found[layer].append(held)

    given, called, rows = laid(store, range(len(samples)))
    with torch.no_grad(), everywhere(model, on=True), packed(base, shown(given, see)):
        base(**called, use_cache=False)
    return found


def apart(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Mean divergence of patterns."""
    each = [
        (there.exp() * torch.where(there.exp() > 0, there - here, 0.0)).sum(dim=-1).flatten()
        for here, there in zip(found, wanted, strict=True)
    ]
    return float(torch.cat(each).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teachers_patterns_are_those_that_transformers_gives(family: str, tmp_path: Path) -> None:
    model, samples = build(tmp_path, family)
    base: Any = model.get_base_model()
    held = streams(model, samples)
    (rows,) = held.batches
    base.set_attn_implementation("eager")
    for place, row in enumerate(rows):
        sample = samples[row]
        ids = torch.tensor([sample.prefix + sample.lead + sample.answer[:-1]])
        with torch.no_grad(), everywhere(model, on=True):
            seen = base(ids, output_attentions=True, use_cache=False).attentions
        for layer, wanted in enumerate(seen):
            found = held.patterns[layer][0][place].exp().float()
            assert torch.allclose(found, wanted[0, :, len(sample.prefix) :], atol=2e-3)
            assert not torch.allclose(found, found.flip(0), atol=2e-3)  # heads differ


@pytest.mark.parametrize("family", FAMILIES)
def test_queries_that_were_lost_are_found_again(family: str, tmp_path: Path) -> None:
    """Keys are the base's for both, so that some queries give the teacher's patterns whole."""
    model, samples = build(tmp_path, family, ["q_proj", "o_proj", "down_proj"])
    wanted, goals = patterns(model, samples, adapted=True)[0], streams(model, samples)
    asker = blocks_of(model)[0].asker
    with torch.no_grad():
        asker.lora_B["default"].weight.neg_()
    before = apart(patterns(model, samples, adapted=False)[0], wanted)
    assert fitted(model, samples, goals) == [True]
    after = apart(patterns(model, samples, adapted=False)[0], wanted)
    assert after < 0.05 * before


@pytest.mark.parametrize("family", FAMILIES)
def test_fitted_queries_attend_more_like_a_teacher_with_keys_of_its_own(family: str, tmp_path: Path) -> None:
    """Of random keys, which a change of low rank cannot make up for, a part."""
    model, samples = build(tmp_path, family)
    wanted = patterns(model, samples, adapted=True)[0]
    before = apart(patterns(model, samples, adapted=False)[0], wanted)
    assert fitted(model, samples, streams(model, samples)) == [True]
    assert apart(patterns(model, samples, adapted=False)[0], wanted) < 0.95 * before


def fitted(model: PeftModel, samples: list[Encoded], goals: Streams) -> list[bool]:
    """Whether the first layer's queries were fitted."""
    blocks, store = blocks_of(model)[:1], PrefixStore(model, samples)
    with torch.no_grad(), everywhere(model, on=True):
        lines = [entered(blocks, store, rows) for rows in goals.batches]
        return [
            queries.fit(block.asker, 0, calibration._asked(model, block, lines, goals.patterns[0]))
            for block in blocks
        ]


def test_the_quadratic_is_the_divergence_of_patterns_that_differ_little(tmp_path: Path) -> None:
    """Its constant is twice the divergence, and its slope what the divergence falls by."""
    model, samples = build(tmp_path, "llama")
    store, block = PrefixStore(model, samples), blocks_of(model)[0]
    goals = streams(model, samples)
    with torch.no_grad(), everywhere(model, on=True):
        lines = [entered([block], store, rows) for rows in goals.batches]
        ((asked, rows, _),) = calibration._asked(model, block, lines, goals.patterns[0])
        own = {n: chances(asked.query, asked.key, row, asked.rule, 0) for n, row in enumerate(rows)}
        torch.manual_seed(0)
        moved = replace(asked, query=asked.query + 0.02 * torch.randn_like(asked.query))
        for place, row in enumerate(rows):
            wanted = own[place]
            assert wanted is not None
            curvature, slope = queries._terms(moved, row, wanted, 0)
            back = queries._turned(
                (asked.query - moved.query)[:, row.begin : row.end],
                tuple(part[row.begin : row.end] for part in asked.turn or ()),
                back=True,
            ).transpose(0, 1)
            said = float(((curvature @ back[..., None])[..., 0] * back).sum())
            there = chances(moved.query, moved.key, row, moved.rule, 0)
            assert there is not None
            true = float((wanted.exp() * torch.where(wanted.exp() > 0, wanted - there, 0.0)).sum())
            assert said == pytest.approx(2 * true, rel=0.05)
            assert float((slope * back).sum()) == pytest.approx(said, rel=1e-3)


def gathered(*, off: float, scale: float, shift: float = 0.0, half: bool = False) -> Fit:
    """Of random queries and keys; the teacher's queries are a little off."""
    torch.manual_seed(0)
    query, key, given = torch.randn(4, 64, 8), torch.randn(2, 64, 8), torch.randn(64, 16)
    row, rule = Row(begin=0, end=64), Rule(scale=scale)
    wanted = chances(query + off * torch.randn_like(query), key, row, rule, 0)
    assert wanted is not None
    made = query.transpose(0, 1).flatten(1)
    asked = Asked(given=given, made=made, query=query, key=key + shift, rule=rule, turn=None)
    found = queries._gathered(0, [(asked, [row], {0: wanted.half() if half else wanted})])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changed", "within"),
    [
        ({"off": 0.1, "scale": 0.3, "shift": 30.0}, 1e-3),  # as of Qwen's keys, which have a bias
        ({"off": 0.01, "scale": 3.0, "half": True}, 0.01),  # such chances do not quite sum to 1
    ],
)
def test_neither_what_all_keys_share_nor_rounding_is_fitted(changed: dict[str, Any], within: float) -> None:
    plain = gathered(off=changed["off"], scale=changed["scale"])
    moved = gathered(**changed)
    assert float((plain.slope - moved.slope).norm() / plain.slope.norm()) < within
    assert float((plain.curvature - moved.curvature).norm() / plain.curvature.norm()) < within


def test_queries_that_are_normed_are_left_as_they_are(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "qwen3")
    before = {name: p.clone() for name, p in model.named_parameters() if "q_proj.lora" in name}
    goals = streams(model, samples)
    assert all(goals.patterns[0])
    assert fitted(model, samples, goals) == [False]
    calibrate(model, PrefixStore(model, samples), goals)
    now = dict(model.named_parameters())
    assert before
    assert all(torch.equal(now[name], was) for name, was in before.items())


@pytest.mark.parametrize("targets", [["k_proj", "v_proj", "o_proj", "down_proj"], None])
def test_an_adapter_that_is_not_on_queries_has_no_patterns(targets: list[str] | None, tmp_path: Path) -> None:
    model, samples = build(tmp_path, "gpt2" if targets is None else "llama", targets)
    assert not any(part for layer in streams(model, samples).patterns for part in layer)
    assert all(block.asker is None for block in blocks_of(model))


def test_windows_and_squashed_scores_are_not_fitted() -> None:
    query, key, row = torch.randn(4, 3, 8), torch.randn(2, 3, 8), Row(begin=0, end=3)
    assert chances(query, key, row, Rule(scale=1.0), 0) is not None
    assert chances(query, key, row, Rule(scale=1.0, window=2), 0) is None
    assert chances(query, key, row, Rule(scale=1.0, softcap=30.0), 0) is None


def test_patterns_are_held_of_as_many_samples_as_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = build(tmp_path, "llama")

    def held() -> list[int]:
        return [len(part) for part in streams(model, samples).patterns[0]]

    assert held() == [len(samples)]
    tokens = sum(len(one.lead) + len(one.answer) for one in samples) / len(samples)
    for limit, value in (("ATTENDED", 2 * tokens), ("HELD", 2 * tokens * 4 * 4 * 8 * 8)):
        with monkeypatch.context() as less:
            less.setattr(the_streams, limit, value)
            assert held() == [2]
            less.setattr(the_streams, limit, 1)
            assert held() == [0]
            assert fitted(model, samples, streams(model, samples)) == [False]
