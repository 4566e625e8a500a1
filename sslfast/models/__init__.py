"""Backbones, heads and decoders."""

from sslfast.models.backbone import Backbone, TimmBackbone, build_backbone
from sslfast.models.conv9 import Conv9
from sslfast.models.decoders import MirroredDecoder, UpsamplingDecoder, build_decoder, build_dense_head
from sslfast.models.grouped import GroupedBackbone
from sslfast.models.heads import Classifier, Predictor, Projector
from sslfast.models.momentum import MomentumEncoder
from sslfast.models.pixel_cnn import PixelCNN
from sslfast.models.shuffle import encode_shuffled

__all__ = [
    "Backbone",
    "Classifier",
    "Conv9",
    "GroupedBackbone",
    "MirroredDecoder",
    "MomentumEncoder",
    "PixelCNN",
    "Predictor",
    "Projector",
    "TimmBackbone",
    "UpsamplingDecoder",
    "build_backbone",
    "build_decoder",
    "build_dense_head",
    "encode_shuffled",
]
