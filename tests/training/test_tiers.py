from pathlib import Path

import pytest
import torch

from zoo.training.entry import Entry, Recorder
from zoo.training.tiers import Budget, Tiers, free_host_bytes

CPU = torch.device("cpu")


def entry(seed: int, tokens: int = 4) -> Entry:
    torch.manual_seed(seed)
    return Entry.of([(torch.randn(2, tokens, 3), torch.randn(2, tokens, 5)) for _ in range(2)])


def test_an_entry_gives_back_what_it_was_made_of() -> None:
    layers = [(torch.randn(2, 4, 3), torch.randn(2, 4, 5)), (torch.randn(1, 4, 3), torch.randn(1, 4, 3))]
    made = Entry.of(layers)
    for (key, value), (other_key, other_value) in zip(made.layers(), layers, strict=True):
        assert torch.equal(key, other_key)
        assert torch.equal(value, other_value)
    assert made.nbytes == sum(t.nbytes for pair in layers for t in pair)
    with pytest.raises(ValueError, match="layers of shapes"):
        made.block()


def test_layers_of_one_shape_are_one_block() -> None:
    layers = [(torch.randn(2, 4, 3), torch.randn(2, 4, 3)) for _ in range(3)]
    block = Entry.of(layers).block()
    assert block.shape == (3, 2, 2, 4, 3)
    assert torch.equal(block[2, 1], layers[2][1])


def test_the_fastest_tier_with_room_is_taken(tmp_path: Path) -> None:
    size = entry(0).nbytes
    tiers = Tiers(CPU, Budget(device=1 << 30, host=size, disk=2 * size, folder=tmp_path))
    assert [tiers.put(number, entry(number)) for number in range(4)] == ["host", "disk", "disk", ""]
    assert tiers.used == {"device": 0, "host": size, "disk": 2 * size}
    assert 3 not in tiers
    assert len(tiers) == 3
    tiers.prefetch([0, 1, 2, 3])
    for number in range(3):
        assert torch.equal(tiers.get(number).flat, entry(number).flat)
    with pytest.raises(KeyError):
        tiers.get(3)


def test_a_small_entry_still_finds_room_beside_a_large_one() -> None:
    tiers = Tiers(CPU, Budget(host=entry(0, 4).nbytes + 10))
    assert tiers.put(0, entry(0, 8)) == ""
    assert tiers.put(1, entry(1, 4)) == "host"


def test_half_precision_survives_the_disk(tmp_path: Path) -> None:
    made = Entry.of([(torch.randn(2, 4, 3).bfloat16(), torch.randn(2, 4, 3).bfloat16())])
    tiers = Tiers(CPU, Budget(disk=1 << 20, folder=tmp_path))
    assert tiers.put(0, made) == "disk"
    assert tiers.get(0).flat.dtype == torch.bfloat16
    assert torch.equal(tiers.get(0).flat, made.flat)


def test_the_automatic_budget_is_part_of_what_is_free(tmp_path: Path) -> None:
    free = free_host_bytes()
    assert 0 < free < 1 << 50
    alone, with_disk = Budget.automatic(CPU), Budget.automatic(CPU, folder=tmp_path)
    assert alone.device == 0
    assert 0 < alone.host < free_host_bytes()
    assert alone.disk == 0
    assert with_disk.disk > 0


@pytest.mark.parametrize("heads", [(3, 3, 3), (3, 5, 3)], ids=["alike", "unlike"])
def test_what_is_recorded_layer_by_layer_is_what_was_there(heads: tuple[int, ...]) -> None:
    line = [(torch.randn(2, 9, head), torch.randn(2, 9, head + 1)) for head in heads]
    recorder = Recorder([(0, 4), (4, 9)], len(line))
    for layer, (key, value) in enumerate(line):
        recorder.add(layer, key, value)
    for made, (begin, end) in zip(recorder.entries(), [(0, 4), (4, 9)], strict=True):
        for (key, value), (whole_key, whole_value) in zip(made.layers(), line, strict=True):
            assert torch.equal(key, whole_key[:, begin:end])
            assert torch.equal(value, whole_value[:, begin:end])


def test_a_layer_that_never_came_is_missed() -> None:
    recorder = Recorder([(0, 4)], 2)
    recorder.add(0, torch.randn(2, 4, 3), torch.randn(2, 4, 3))
    with pytest.raises(ValueError, match="2 layers"):
        recorder.entries()
