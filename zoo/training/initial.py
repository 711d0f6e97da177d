"""The weights an adapter starts from; whichever they are, it starts as the base model.

kaiming, orthogonal   B is zero, so the update is too. kaiming is PEFT's default for A; orthogonal gives A
                      orthonormal rows.
pissa, olora          factors B₀·A₀ of the base weight W: of its largest singular values, or of the first rows
                      of its QR decomposition. Elsewhere W loses B₀·A₀ and the adapter adds it back. An aLoRA
                      must leave W alone, since prefixes are run on it. Here the adapter is B·A − B₀·A₀: half
                      of the rank is trained, the other half is the start, negated and fixed. That is exact,
                      and costs what it says: a release of rank r trains r/2.

A is drawn from the seed and the module's name, so an adapter starts alike alone and after another in the same
model. With a shared A every adapter of a library has the same one, from a seed of its own and never trained.
Source: Meng et al. 2024, arXiv 2404.02948 (PiSSA); Büyükakyüz 2024, arXiv 2406.01775 (OLoRA); their
scaling as in peft 0.21.2, tuners/lora/layer.py.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UsageError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Generator, Tensor

Name = Literal["kaiming", "orthogonal", "pissa", "olora"]
HALVED = ("pissa", "olora")
EXACT_SVD = 1024  # smaller side of a weight up to which all singular values are computed
NAME = "default"  # PEFT's for the one adapter


def check(name: Name, *, rank: int, optimizer: str, weight_decay: float, shared_a: int | None) -> None:
    """Refuses combinations that could not be what they are called.

    Args:
        name: of the initialisation.
        rank: of the release.
        optimizer: its name.
        weight_decay: of the recipe.
        shared_a: seed of a shared A, or None.

    Raises:
        UsageError: ZD006, saying which two do not go together.
    """
    if name not in HALVED:
        return
    why = ""
    if rank % 2:
        why = f"it trains half of the rank, and {rank} is odd"
    elif shared_a is not None:
        why = "its A comes from the base's weights, a shared A from a seed"
    elif optimizer == "lora-rite":
        why = "it holds half of each factor fixed, and lora-rite mixes the halves"
    elif weight_decay:
        why = "weight decay would move the half that is fixed"
    if why:
        raise UsageError(
            f"--init {name} does not go with these options: {why}",
            hint="--init orthogonal, or another rank or optimiser",
            code="ZD006",
        )


def initialise(model: "PeftModel", name: Name, *, seed: int, shared_a: int | None) -> None:
    """Sets an adapter's initial weights in place, and fixes what is not trained.

    Args:
        model: with an adapter `default`, fresh or trained: nothing of it is kept.
        name: of the initialisation.
        seed: of new weights.
        shared_a: seed of a shared A, which is not trained; None trains A.
    """
    import torch
    from peft.utils.integrations import dequantize_module_weight

    for path, layer in _layers(model):
        a, b = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        for factor in (a, b):
            factor.requires_grad_(True)
            factor.grad = None
        with torch.no_grad():
            b.zero_()
        if name in HALVED:
            start = _principal if name == "pissa" else _leading
            weight = dequantize_module_weight(layer.get_base_layer()).detach().float()
            weight = weight.T if getattr(layer, "fan_in_fan_out", False) else weight
            _halve(a, b, start(weight, a.shape[0] // 2, float(layer.scaling[NAME])))
        else:
            with torch.no_grad():
                a.copy_(_draw(name, (a.shape[0], a.shape[1]), _generator(shared_a, seed, path)))
        if shared_a is not None:
            a.requires_grad_(False)


def digest_a(model: "PeftModel") -> str:
    """Sha256 over every A in order of module names: equal for adapters that share A."""
    found = hashlib.sha256()
    for path, layer in sorted(_layers(model), key=lambda pair: pair[0]):
        a = layer.lora_A[NAME].weight.detach().float().cpu().contiguous()
        found.update(f"{path} {tuple(a.shape)}\n".encode() + a.numpy().tobytes())
    return found.hexdigest()


def _layers(model: "PeftModel") -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora.layer import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and NAME in module.lora_A:
            yield path.removeprefix("base_model.model."), module


def _generator(shared_a: int | None, seed: int, path: str) -> "Generator":
    """By module name, so that A does not depend on which other modules are adapted."""
    import torch

    text = f"{seed}/{path}" if shared_a is None else f"shared/{shared_a}/{path}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


def _draw(name: Name, shape: tuple[int, int], generator: "Generator") -> "Tensor":
    import torch

    if name == "kaiming":  # PEFT's: kaiming_uniform with a = √5
        return torch.empty(shape).uniform_(-1, 1, generator=generator) / math.sqrt(shape[1])
    drawn: Tensor = torch.nn.init.orthogonal_(torch.empty(shape), generator=generator)
    return drawn


def _principal(weight: "Tensor", rank: int, scale: float) -> tuple["Tensor", "Tensor"]:
    import torch

    if min(weight.shape) <= EXACT_SVD:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    else:
        u, s, v = torch.svd_lowrank(weight, q=rank, niter=16)
        vh = v.T
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


def _leading(weight: "Tensor", rank: int, _scale: float) -> tuple["Tensor", "Tensor"]:
    import torch

    q, r = torch.linalg.qr(weight)
    return r[:rank], q[:, :rank]


def _halve(a: "Tensor", b: "Tensor", start: tuple["Tensor", "Tensor"]) -> None:
    """The first half of the rank begins at `start`; the second is its negative and gets no gradient."""
    import torch

    half = a.shape[0] // 2
    free = torch.cat([torch.ones(half), torch.zeros(half)]).to(a.device)
    with torch.no_grad():
        a.copy_(torch.cat([start[0], start[0]]))
        b.copy_(torch.cat([start[1], -start[1]], dim=1))
    hook: Any = a.register_hook
    hook(lambda gradient: gradient * free[:, None])
    hook = b.register_hook
    hook(lambda gradient: gradient * free)
