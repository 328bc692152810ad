"""Layers as immutable pytrees, with PyTorch's names, parameters and initial distributions."""

from fgrad.nn.modules.attention import MultiHeadAttention
from fgrad.nn.modules.base import Module, static
from fgrad.nn.modules.container import Lambda, Sequential
from fgrad.nn.modules.conv import Conv2d
from fgrad.nn.modules.linear import Dropout, Embedding, Linear
from fgrad.nn.modules.norm import GroupNorm, LayerNorm, RMSNorm

__all__ = [
    "Conv2d",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "Lambda",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "static",
]
