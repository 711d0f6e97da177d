"""A worker: it holds a base and gates one adapter after another on it."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from zoo.ci.fleet.task import Finished, Order
from zoo.ci.gate import gate
from zoo.provenance import package_versions
from zoo.render.json import to_document
from zoo.validators.bases import Bases
from zoo.validators.validate import PACKAGES


class Worker:
    """Gates adapters in one process; a base that it loaded stays for the next one."""

    def __init__(self, order: str, cwd: str = "") -> None:
        """Starts without a base.

        Args:
            order: as `Order.dump` made it.
            cwd: the folder that relative paths are meant from; empty stays where this process is.
        """
        if cwd and Path(cwd).is_dir():
            os.chdir(cwd)
        self._order = Order.load(order)
        self._bases = Bases()

    def hello(self, folder: str) -> dict[str, str]:
        """What the one who gives out work must know: versions, machine, whether an adapter is there."""
        return {
            **package_versions(PACKAGES),
            "node": platform.node(),
            "process": str(os.getpid()),
            "sees": "yes" if Path(folder).is_dir() else "",
        }

    def check(self, index: int, folder: str, known: Mapping[str, str]) -> Finished:
        """Gates one adapter.

        Args:
            index: of its task.
            folder: as it was named.
            known: what was shown on adapters before it.

        Raises:
            ZooError: the run as a whole cannot go on, such as for want of the base that was named.
        """
        shown = self._bases.rigs.shown
        shown.on, shown.asked = dict(known), {}
        order = self._order
        (report,) = gate(
            [Path(folder)],
            policy=order.policy,
            today=order.today,
            settings=order.settings,
            bases=self._bases,
        )
        new = {key: name for key, name in shown.on.items() if key not in known}
        return Finished(index=index, report=to_document(report), asked=dict(shown.asked), shown=new)
