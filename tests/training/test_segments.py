import random

import pytest

from zoo.training.segments import Tree, common_length, tree_of


def whole(tree: Tree, row: int) -> tuple[int, ...]:
    return tuple(token for number in tree.path(row) for token in tree.segments[number].ids)


def random_prefixes(seed: int) -> list[tuple[int, ...]]:
    """Few different tokens, so that beginnings agree by chance, and copies of beginnings."""
    source = random.Random(seed)
    found: list[tuple[int, ...]] = [()]
    for _ in range(40):
        before = source.choice(found)
        before = before[: source.randrange(len(before) + 1)]
        found.append(before + tuple(source.randrange(3) for _ in range(source.randrange(30))))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_every_prefix_is_the_path_to_its_end(seed: int) -> None:
    prefixes = random_prefixes(seed)
    tree = tree_of(prefixes, shortest=4)
    for row, prefix in enumerate(prefixes):
        assert whole(tree, row) == prefix
    for number, segment in enumerate(tree.segments):
        assert segment.parent < number
        above = tree.segments[segment.parent] if segment.parent >= 0 else None
        assert segment.start == (above.start + len(above.ids) if above else 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_shared_is_held_once_down_to_the_shortest_length(seed: int) -> None:
    prefixes = random_prefixes(seed)
    held = sum(len(segment.ids) for segment in tree_of(prefixes, shortest=1).segments)
    distinct = {prefix[:end] for prefix in prefixes for end in range(1, len(prefix) + 1)}
    assert held == len(distinct)  # a trie with a node a token holds each beginning once
    longer = sum(len(segment.ids) for segment in tree_of(prefixes, shortest=8).segments)
    assert held < longer < sum(map(len, prefixes))


def test_a_conversation_and_its_next_turns() -> None:
    first, second, third = (1,) * 20, (2,) * 30, (3,) * 40
    tree = tree_of([first, first + second, first + second + third, first])
    assert [tree.path(row) for row in range(4)] == [[0], [0, 1], [0, 1, 2], [0]]
    assert [len(segment.ids) for segment in tree.segments] == [20, 30, 40]


def test_a_common_beginning_that_is_too_short_is_held_twice() -> None:
    tree = tree_of([(1, 2, 3, 4), (1, 2, 3, 5)], shortest=16)
    assert [segment.start for segment in tree.segments] == [0, 0]


def test_nothing_to_hold() -> None:
    assert tree_of([]).segments == []
    assert tree_of([(), ()]).path(1) == []


@pytest.mark.parametrize("seed", range(3))
def test_packs_hold_children_of_one_parent_after_it(seed: int) -> None:
    tree = tree_of(random_prefixes(seed), shortest=4)
    packs = tree.packs(40)
    assert sorted(number for pack in packs for number in pack) == list(range(len(tree.segments)))
    done: set[int] = {-1}
    for pack in packs:
        parents = {tree.segments[number].parent for number in pack}
        assert len(parents) == 1
        assert parents <= done
        assert len(pack) == 1 or sum(len(tree.segments[number].ids) for number in pack) <= 40
        done.update(pack)
    assert any(len(pack) > 1 for pack in packs)


def test_common_length() -> None:
    assert common_length((1, 2, 3), (1, 2, 4, 5)) == 2
    assert common_length((1, 2), (1, 2, 3)) == 2
    assert common_length((1, 2, 3), (1, 2)) == 2
    assert common_length((), (1,)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_long_segments_follow_one_another(seed: int) -> None:
    prefixes = random_prefixes(seed)
    tree, cut = tree_of(prefixes, shortest=4), tree_of(prefixes, shortest=4, longest=5)
    assert max(len(segment.ids) for segment in cut.segments) == 5
    for row, prefix in enumerate(prefixes):
        assert whole(cut, row) == prefix
    for segment in cut.segments:
        above = cut.segments[segment.parent] if segment.parent >= 0 else None
        assert segment.start == (above.start + len(above.ids) if above else 0)
    held = [sum(len(segment.ids) for segment in one.segments) for one in (tree, cut)]
    assert held[0] == held[1]
