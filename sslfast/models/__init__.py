"""Backbones, heads and decoders."""

from sslfast.models.backbone import Backbone, TimmBackbone, build_backbone
from sslfast.models.conv9 import Conv9
from sslfast.models.decoders import MirroredDecoder, UpsamplingDecoder, build_decoder
from sslfast.models.heads import Classifier, Projector

__all__ = [
    "Backbone",
    "Classifier",
    "Conv9",
    "MirroredDecoder",
    "Projector",
    "TimmBackbone",
    "UpsamplingDecoder",
    "build_backbone",
    "build_decoder",
]
