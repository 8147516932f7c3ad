"""Use a model: embeddings, similarities and best matches from an artifact or a checkpoint, NumPy in and out."""

from rcc.engine.clip import CLIPConfig as CLIPConfig
from rcc.engine.clip import CLIPEngine as CLIPEngine
