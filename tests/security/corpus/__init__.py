"""The corpus: every hostile folder, family by family."""

from tests.security.corpus.claims import CLAIMS
from tests.security.corpus.code import CODE
from tests.security.corpus.configs import CONFIGS
from tests.security.corpus.documents import DOCUMENTS
from tests.security.corpus.headers import HEADERS
from tests.security.corpus.paths import PATHS
from tests.security.corpus.pickles import PICKLES
from tests.security.corpus.secrets import SECRETS
from tests.security.corpus.sources import SOURCES
from tests.security.corpus.templates import TEMPLATES
from tests.security.corpus.words import WORDS
from tests.security.hostile import Hostile

CORPUS: tuple[Hostile, ...] = (
    *PICKLES, *HEADERS, *CONFIGS, *DOCUMENTS, *TEMPLATES, *PATHS, *CODE, *SECRETS, *CLAIMS, *WORDS, *SOURCES,
)  # fmt: skip
