"""The programs that are compared, what each needs, and whether it trains what the others train."""

from dataclasses import dataclass
from importlib.util import find_spec

from zoo.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One program.

    Attributes:
        name: on the command line.
        title: for people.
        needs: packages that have to be installed.
        install: the command that installs them.
        alike: whether it takes initial weights, order of samples, schedule and optimiser as they are given,
            so that its first loss has to be that of the others.
        own: what it does its own way, where it is not alike.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()
    install: str = ""
    alike: bool = True
    own: str = ""

    def missing(self) -> str:
        """What is not installed, or nothing."""
        return ", ".join(name for name in self.needs if find_spec(name) is None)


BENCH = "pip install 'alora-zoo[bench]'"
ARMS = (
    Arm(name="zoo", title="zoo train"),
    Arm(name="trainer", title="PEFT + Trainer", needs=("accelerate",), install=BENCH),
    Arm(
        name="trainer-checkpointing",
        title="PEFT + Trainer, checkpointing",
        needs=("accelerate",),
        install=BENCH,
    ),
    Arm(name="trl", title="TRL SFTTrainer", needs=("accelerate", "datasets", "trl"), install=BENCH),
    Arm(
        name="mellea",
        title="m alora train",
        install="pip install 'mellea[hf]' into an environment of its own (it wants trl 0.19.1), "
        "then --mellea-python THAT/bin/python",
        alike=False,
        own="alpha 32, dropout 0.05, linear decay, its own split and order, the checkpoint's dtype",
    ),
)
BY_NAME = {arm.name: arm for arm in ARMS}


def chosen(names: str) -> list[Arm]:
    """The arms of a comma-separated list; all of them when it is empty. Ours is always the first.

    Raises:
        UsageError: there is no such arm.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in BY_NAME:
            raise UsageError(f"there is no arm {name!r}", hint=f"--arms {','.join(BY_NAME)}")
    return [arm for arm in ARMS if not wanted or arm.name in wanted or arm.name == "zoo"]
