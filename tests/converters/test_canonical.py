"""The canonical form against a full singular value decomposition of the product."""

import pytest
import torch

from zoo.converters.canonical import canonical, distance, inner, overlap, uncancelled


def factors(
    seed: int = 0, *, out: int = 24, wide: int = 40, rank: int = 6
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rank, wide, generator=generator),
        torch.randn(out, rank, generator=generator),
    )


@pytest.mark.parametrize("shape", [{}, {"rank": 40}, {"out": 4, "rank": 8}, {"rank": 1}])
def test_it_is_the_svd_of_the_product(shape: dict[str, int]) -> None:
    a, b = factors(**shape)
    form = canonical(a, b, 0.5)
    dense = 0.5 * b.double() @ a.double()
    wanted = torch.linalg.svdvals(dense)
    assert torch.allclose(form.s, wanted[: len(form.s)], rtol=1e-12)
    assert (wanted[len(form.s) :] < 1e-12).all()
    assert torch.allclose(form.u * form.s @ form.v.T, dense, atol=1e-12)
    eye = torch.eye(len(form.s), dtype=torch.float64)
    assert torch.allclose(form.u.T @ form.u, eye, atol=1e-13)
    assert torch.allclose(form.v.T @ form.v, eye, atol=1e-13)
    assert form.norm == pytest.approx(float(dense.norm()))


def test_it_does_not_depend_on_the_factors_chosen() -> None:
    a, b = factors()
    turn = torch.randn(6, 6, generator=torch.Generator().manual_seed(3)).double() + 3 * torch.eye(6)
    other = canonical(turn @ a.double(), b.double() @ torch.linalg.inv(turn))
    form = canonical(a, b)
    for one, two in ((form.u, other.u), (form.s, other.s), (form.v, other.v)):
        assert torch.allclose(one, two, atol=1e-9)
    # the control: another update has another form
    assert not torch.allclose(form.v, canonical(*factors(1)).v, atol=1e-2)


def test_other_factors_of_the_same_product_lose_nothing_to_rounding() -> None:
    a, b = factors()
    low = torch.cat([a, a]), torch.cat([b, -b - 1e-5 * factors(1)[1]], dim=1)
    dense = 0.7 * low[1].double() @ low[0].double()

    def lost(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((b.float().double() @ a.float().double() - dense).norm() / dense.norm())

    assert lost(*uncancelled(*low, 0.7)) < 2e-7
    assert lost(low[0], 0.7 * low[1].double()) > 1e-4


def test_a_zero_update_has_no_singular_value() -> None:
    a, b = factors()
    form = canonical(a, b * 0)
    assert (form.s.shape, form.u.shape, form.v.shape) == ((0,), (24, 0), (40, 0))
    assert (form.norm, form.effective_rank) == (0.0, 0.0)


def test_the_effective_rank_counts_equal_singular_values() -> None:
    eye = torch.eye(5)
    assert canonical(eye, eye).effective_rank == pytest.approx(5)
    assert canonical(torch.diag(torch.tensor([1.0, 1e-9, 0, 0, 0])), eye).effective_rank == pytest.approx(1)


def test_the_number_of_threads_changes_nothing() -> None:
    a, b = factors(out=300, wide=500, rank=48)
    before = torch.get_num_threads()
    forms = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        forms.append(canonical(a, b))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert all(torch.equal(forms[0].u, form.u) and torch.equal(forms[0].v, form.v) for form in forms)


def test_products_and_distances_are_those_of_the_dense_updates() -> None:
    a, b = factors()
    c, d = factors(1, rank=3)
    one, two = b.double() @ a.double(), d.double() @ c.double()
    assert inner(a, b, c, d) == pytest.approx(float((one * two).sum()))
    assert distance(a, b, c, d) == pytest.approx(float((one - two).norm()))
    near = b.double() * (1 + 1e-12)  # where a difference of squares would give 0
    assert distance(a.double(), b.double(), a.double(), near) == pytest.approx(
        1e-12 * float(one.norm()), rel=1e-2
    )


def test_overlap_of_subspaces() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert overlap(eye[:, :2], eye[:, :4]) == 1.0
    assert overlap(eye[:, :2], eye[:, 2:4]) == 0.0
    assert overlap(eye[:, :2], eye[:, 1:3]) == 0.5
    assert overlap(eye[:, :0], eye) == 0.0
