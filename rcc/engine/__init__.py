"""Use a model: embeddings, similarities and best matches from an artifact or a checkpoint, NumPy in and out."""

from rcc.engine.audio import AudioEncoder as AudioEncoder
from rcc.engine.clip import CLIPConfig as CLIPConfig
from rcc.engine.clip import CLIPEngine as CLIPEngine
from rcc.engine.provider import EmbeddingProvider as EmbeddingProvider
from rcc.engine.provider import MultimodalEmbeddingProvider as MultimodalEmbeddingProvider
from rcc.engine.text import TextEncoder as TextEncoder
from rcc.engine.vision import VisionEncoder as VisionEncoder
