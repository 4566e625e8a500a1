"""Self-supervised methods, one a file, and how to build them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from sslfast import registry
from sslfast.errors import UserError
from sslfast.methods.base import Method
from sslfast.models import Backbone, build_backbone
from sslfast.options import check_types

__all__ = ["Method", "build"]

# What `build` passes itself; every other parameter of a method's constructor is an option of the user.
COMMON_PARAMETERS = ("self", "backbone", "image_size", "seed")


def build(
    name: str | type[Method],
    backbone: str | Backbone = "resnet18",
    image_size: int = 32,
    seed: int = 0,
    in_channels: int = 3,
    **options: Any,
) -> Method:
    """Builds a method with a randomly initialised backbone; the same arguments give the same weights.

    Args:
        name: one of `sslfast.registry.METHODS`, a user's own "package.module:Class", or a Method class.
        backbone: a name for `sslfast.models.build_backbone`, or a Backbone.
        image_size: side of the views in pixels.
        seed: of the initial weights and of the views' random streams.
        in_channels: channels of the images, 1 to 16.
        **options: the method's own, those of its constructor.

    Raises:
        UserError: an unknown name or option (the message gives the nearest ones), or an option's value of a wrong type
            or outside its range.
    """
    method = registry.resolve("methods", name) if isinstance(name, str) else name
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UserError(f"{name!r} is no sslfast.methods.Method; derive your class from it")
    _check_options(method, options)
    if isinstance(backbone, Backbone) and (backbone.image_size, backbone.in_channels) != (image_size, in_channels):
        raise UserError(
            f"the backbone is made for {backbone.image_size} px and {backbone.in_channels} channels, the method for "
            f"{image_size} px and {in_channels} channels; give both the same"
        )
    with torch.random.fork_rng(devices=[]):  # the caller's random stream goes on undisturbed
        torch.manual_seed(seed)
        if isinstance(backbone, str):
            backbone = build_backbone(backbone, image_size, in_channels)
        constructor: Callable[..., Method] = method  # every subclass takes these, the base class takes the views
        return constructor(backbone=backbone, image_size=image_size, seed=seed, **options)


def _check_options(method: type[Method], options: dict[str, Any]) -> None:
    parameters = inspect.signature(method.__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # a user's own class that takes whatever comes
    missing = [name for name in COMMON_PARAMETERS if name not in parameters]
    if missing:
        raise UserError(f"the constructor of {method.__name__} must take backbone, image_size and seed; add {missing}")
    valid = [name for name in parameters if name not in COMMON_PARAMETERS]
    for name in options:
        if name not in valid:
            hint = registry.nearest(name, valid) if valid else "it has none"
            raise UserError(f"unknown option {name!r} of {method.__name__}; {hint}")
    check_types(method.__init__, options, method.__name__)
