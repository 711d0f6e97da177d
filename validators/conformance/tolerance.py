"""How much difference is allowed, and why: calibrated on what the base model does to itself.

Three kinds of comparison, three rules:

- identical shapes, nothing adapted yet: bitwise, no tolerance (checks ZR002, ZK001);
- identical shapes, PEFT against the reference: 1e-4 log-probability in float32; in half precision one
  rounding that falls the other way grows to the size of the base's own chunking noise, which is the bound;
- other shapes (another chunking, a batch): a multiple of the base's own noise under the same change.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.validators.conformance.difference import Difference, worst

if TYPE_CHECKING:
    import torch

    from zoo.validators.conformance.evidence import PromptEvidence

PARITY_FLOAT32 = 1e-4
MULTIPLE_FLOAT32 = 16.0  # float32 noise is four orders below any real effect: headroom costs no power
MULTIPLE_HALF = 4.0  # in half precision it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The base model's own noise on log-probabilities, in nats.

    Attributes:
        measured: largest difference between chunkings of the base.
        floor: one unit in the last place of the largest log-probability: what no comparison can go below.
        half: whether the model computes in bfloat16 or float16.
    """

    measured: float
    floor: float
    half: bool

    @classmethod
    def of(cls, found: Difference, *, scale: float, dtype: "torch.dtype") -> "Noise":
        """Noise from a measured difference of the base with itself.

        Args:
            found: between two ways to run the base.
            scale: largest absolute log-probability.
            dtype: of the model.
        """
        import torch

        return cls(
            measured=found.max_abs,
            floor=torch.finfo(dtype).eps * scale,
            half=dtype in (torch.bfloat16, torch.float16),
        )

    @property
    def level(self) -> float:
        """The larger of measured noise and floor."""
        return max(self.measured, self.floor)

    @property
    def parity(self) -> float:
        """What PEFT and the reference may differ by at identical shapes."""
        return self.level if self.half else max(PARITY_FLOAT32, self.measured)

    @property
    def multiple(self) -> float:
        """How many times `level` another shape may make."""
        return MULTIPLE_HALF if self.half else MULTIPLE_FLOAT32

    @property
    def other_shape(self) -> float:
        """What the same computation in another shape may differ by."""
        return self.multiple * self.level


def chunking_noise(evidence: "list[PromptEvidence]", dtype: "torch.dtype") -> Noise:
    """The base's chunking noise over all prompts of a session."""
    found = worst(d for one in evidence if one.hand_over for d in one.hand_over.noise.values())
    scale = max((one.scale for one in evidence), default=0.0)
    return Noise.of(found, scale=scale, dtype=dtype)
