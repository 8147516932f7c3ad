"""Keep embeddings with their ids and fields on disk, and search them: nothing acknowledged is ever lost."""

from rcc.store.store import EmbeddingStore as EmbeddingStore
from rcc.store.store import Match as Match
