"""An engine that understands an adapter and says no."""

from zoo.errors import EngineError


class EngineRefusesError(EngineError):
    """The engine runs, and does not take this adapter; the message is the engine's own."""
