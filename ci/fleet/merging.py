"""Many workers' results made into what one process would have said."""

from collections.abc import Mapping

from zoo.ci.fleet.task import Finished


class Merge:
    """Takes results in the order in which one process takes adapters, and says whether each fits.

    What concerns an engine is shown on the first adapter of a kind in a run and holds for the others, whose
    results name it. A result fits where the adapter knew what it would have known in one process.
    """

    def __init__(self) -> None:
        """Starts with nothing shown."""
        self._shown: dict[str, str] = {}

    @property
    def shown(self) -> Mapping[str, str]:
        """What was shown up to here."""
        return self._shown

    def take(self, finished: Finished) -> bool:
        """Whether a result is what one process would have said; if not, its adapter is to be run again.

        Args:
            finished: of the next adapter.
        """
        if any(self._shown.get(key, "") != name for key, name in finished.asked.items()):
            return False
        for key, name in finished.shown.items():
            self._shown.setdefault(key, name)
        return True
