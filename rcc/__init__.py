"""Recursive Cascade Compression: an ordered, gated, resumable cascade that makes vision–language models small.

>>> from rcc import RCCPipeline, DARECompressor, NulluProjector, AlphaEditor
>>> model = rcc.load("outputs/<date>/<time>/artifact")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcc.artifact.load import load as load
    from rcc.artifact.reloading import check_reloaded as check_reloaded
    from rcc.artifact.write import write_artifact as save  # noqa: F401
    from rcc.cascade.bytes.budget import Target as Target
    from rcc.cascade.pipeline import RCCPipeline as RCCPipeline
    from rcc.cascade.schedule import Schedule as Schedule
    from rcc.data.registry import load_data as load_data
    from rcc.data.splits import Split as Split
    from rcc.data.splits import Splits as Splits
    from rcc.data.torch_dataset import ImageNetDataset as ImageNetDataset
    from rcc.data.torch_dataset import create_dataloader as create_dataloader
    from rcc.engine.audio import AudioEncoder as AudioEncoder
    from rcc.engine.clip import CLIPConfig as CLIPConfig
    from rcc.engine.clip import CLIPEngine as CLIPEngine
    from rcc.engine.provider import EmbeddingProvider as EmbeddingProvider
    from rcc.engine.provider import MultimodalEmbeddingProvider as MultimodalEmbeddingProvider
    from rcc.engine.text import TextEncoder as TextEncoder
    from rcc.engine.vision import VisionEncoder as VisionEncoder
    from rcc.errors import RccError as RccError
    from rcc.errors import UserError as UserError
    from rcc.errors import WorkError as WorkError
    from rcc.evaluation.captioning.evaluator import CaptioningEvaluator as CaptioningEvaluator
    from rcc.evaluation.captioning.metrics import MetricComputer as MetricComputer
    from rcc.evaluation.classes.classification import ClassificationEvaluator as ClassificationEvaluator
    from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator as ZeroShotEvaluator
    from rcc.evaluation.efficiency import EfficiencyEvaluator as EfficiencyEvaluator
    from rcc.evaluation.embeddings.cache import EmbeddingCache as EmbeddingCache
    from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator as RetrievalEvaluator
    from rcc.evaluation.search.evaluator import SearchEvaluator as SearchEvaluator
    from rcc.learning.distillation import KnowledgeDistillationLoss as KnowledgeDistillationLoss
    from rcc.learning.distillation import setup_teacher_student as setup_teacher_student
    from rcc.learning.held import held as held
    from rcc.learning.precision import mixed_precision_forward as mixed_precision_forward
    from rcc.learning.trainer import CompressionTrainer as CompressionTrainer
    from rcc.measurement import Measurement as Measurement
    from rcc.measurement import Metric as Metric
    from rcc.models.own.module import ModuleAdapter as ModuleAdapter
    from rcc.models.registry import load_model as load_model
    from rcc.models.transformers.blip import BLIPWrapper as BLIPWrapper
    from rcc.models.transformers.blip_retrieval import BLIPRetrievalWrapper as BLIPRetrievalWrapper
    from rcc.models.transformers.clip import CLIPWrapper as CLIPWrapper
    from rcc.stages.alpha.editor import AlphaEditor as AlphaEditor
    from rcc.stages.dare.compressor import DARECompressor as DARECompressor
    from rcc.stages.gradual import GradualPruning as GradualPruning
    from rcc.stages.nullu.projector import NulluProjector as NulluCompressor  # noqa: F401
    from rcc.stages.nullu.projector import NulluProjector as NulluProjector
    from rcc.stages.quant import Quantizer as Quantizer
    from rcc.stages.recover import Recovery as Recovery
    from rcc.store.store import EmbeddingStore as EmbeddingStore
    from rcc.sweeps.optimizer import BayesianOptimizer as BayesianOptimizer

__version__ = "0.1.0"

# Imported when first asked for: `rcc-run --help` must answer before torch could be loaded.
_PUBLIC = {
    "AlphaEditor": "rcc.stages.alpha.editor",
    "AudioEncoder": "rcc.engine.audio",
    "BLIPRetrievalWrapper": "rcc.models.transformers.blip_retrieval",
    "BLIPWrapper": "rcc.models.transformers.blip",
    "BayesianOptimizer": "rcc.sweeps.optimizer",
    "CLIPConfig": "rcc.engine.clip",
    "CLIPEngine": "rcc.engine.clip",
    "CLIPWrapper": "rcc.models.transformers.clip",
    "CaptioningEvaluator": "rcc.evaluation.captioning.evaluator",
    "ClassificationEvaluator": "rcc.evaluation.classes.classification",
    "CompressionTrainer": "rcc.learning.trainer",
    "DARECompressor": "rcc.stages.dare.compressor",
    "EfficiencyEvaluator": "rcc.evaluation.efficiency",
    "EmbeddingCache": "rcc.evaluation.embeddings.cache",
    "EmbeddingProvider": "rcc.engine.provider",
    "EmbeddingStore": "rcc.store.store",
    "ImageNetDataset": "rcc.data.torch_dataset",
    "KnowledgeDistillationLoss": "rcc.learning.distillation",
    "Measurement": "rcc.measurement",
    "Metric": "rcc.measurement",
    "MetricComputer": "rcc.evaluation.captioning.metrics",
    "GradualPruning": "rcc.stages.gradual",
    "ModuleAdapter": "rcc.models.own.module",
    "MultimodalEmbeddingProvider": "rcc.engine.provider",
    "NulluCompressor": "rcc.stages.nullu.projector:NulluProjector",
    "NulluProjector": "rcc.stages.nullu.projector",
    "Quantizer": "rcc.stages.quant",
    "RCCPipeline": "rcc.cascade.pipeline",
    "RccError": "rcc.errors",
    "Recovery": "rcc.stages.recover",
    "RetrievalEvaluator": "rcc.evaluation.retrieval.evaluator",
    "Schedule": "rcc.cascade.schedule",
    "SearchEvaluator": "rcc.evaluation.search.evaluator",
    "Split": "rcc.data.splits",
    "Splits": "rcc.data.splits",
    "Target": "rcc.cascade.bytes.budget",
    "TextEncoder": "rcc.engine.text",
    "UserError": "rcc.errors",
    "VisionEncoder": "rcc.engine.vision",
    "WorkError": "rcc.errors",
    "ZeroShotEvaluator": "rcc.evaluation.classes.zero_shot",
    "check_reloaded": "rcc.artifact.reloading",
    "create_dataloader": "rcc.data.torch_dataset",
    "held": "rcc.learning.held",
    "load": "rcc.artifact.load",
    "load_data": "rcc.data.registry",
    "load_model": "rcc.models.registry",
    "mixed_precision_forward": "rcc.learning.precision",
    "save": "rcc.artifact.write:write_artifact",
    "setup_teacher_student": "rcc.learning.distillation",
}
__all__ = sorted(["__version__", *_PUBLIC])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rcc' has no attribute '{name}'; it has {', '.join(__all__)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return __all__
