"""What a contract (`zoo.specs.io.IOSpec`) does: requests are rewritten, replies become results.

Pure functions: no argument is ever changed, nothing of an argument is shared with what is returned, and every
failure is a ContractError with one of the codes ZO100 to ZO133 and the path to what is wrong.
"""

from zoo.io.processing import process
from zoo.io.rewriting import conversation, rewrite

__all__ = ["conversation", "process", "rewrite"]
