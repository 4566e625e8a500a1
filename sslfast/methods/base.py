"""Method: the interface every self-supervised method implements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from sslfast.augment import MultiView, Views, ViewSpec, presets
from sslfast.data.batch import ImageBatch, Regions
from sslfast.errors import UserError
from sslfast.models import Backbone

# What torch's optimisers take: parameters, or groups of them as dictionaries with "params" and settings of their own.
Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[Mapping[str, Any]]


class Method(nn.Module):
    """A self-supervised method: what it draws from a batch, and the loss it computes from that.

    A subclass takes `(backbone, image_size, seed)` and its own options, hands the views it wants to this constructor,
    adds its heads and writes `forward`; the other hooks have defaults that do nothing. It knows no training framework:

        method = sslfast.methods.build("simclr", backbone="resnet18", image_size=32)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
        loader = sslfast.data.MemoryLoader(images, batch_size=256)
        for epoch in range(epochs):
            for batch in loader.epoch(epoch):
                loss = method(method.views(batch, epoch))["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    Args:
        backbone: the encoder to train.
        views: what to draw, one ViewSpec a view. Images of other than three channels get them without colour
            operations, which need red, green and blue, and with statistics of 0.5 and 0.25 in every channel.
        seed: names the random streams of the views.

    Attributes:
        backbone: what evaluation and export keep.
        multi_view: draws the views.
        evaluation_view: what the backbone sees after training: the plain view, normalised as in training.
        recipe: the paper's optimiser settings: keys of `sslfast.train.TrainConfig`, used unless the user sets them.
        synchronised_batch_norm: whether batch norm takes its statistics from the batches of all ranks, on CUDA; on a
            CPU, for which torch has no such thing, every rank has its own.
        least_batch: images that a rank's batch must have at least; 2 where batch norm sees one vector an image.
    """

    recipe: Mapping[str, Any] = {}
    synchronised_batch_norm = False
    least_batch = 1

    def __init__(self, backbone: Backbone, views: Sequence[ViewSpec], seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        if backbone.in_channels != 3:
            views = [_without_colour(view) for view in views]
        self.multi_view = MultiView(views, seed)
        plain = presets.plain(backbone.image_size)[0]
        self.evaluation_view = plain.replace(mean=views[0].mean, std=views[0].std)
        self.register_load_state_dict_pre_hook(_fill_empty_buffers)

    def views(self, batch: ImageBatch, epoch: int = 0) -> Views:
        """Views of every image of `batch`, on its device, without gradient.

        Raises:
            UserError: a batch without images, whose loss would not be a number.
        """
        if len(batch) == 0:
            raise UserError("the batch has no images; give at least one, for example by leaving an empty last one out")
        return self.multi_view(batch, epoch)

    @property
    def regions(self) -> Regions | None:
        """What `views` needs of each image, for a loader that decodes no more; None where they are a subclass's own."""
        drawn = type(self).views is Method.views and isinstance(self.multi_view, MultiView)
        return self.multi_view.regions if drawn else None

    def forward(self, views: Views) -> dict[str, Tensor]:
        """`{"loss": scalar to minimise, ...: scalars worth logging}`."""
        raise TypeError(f"{type(self).__name__} must define forward(views) -> dict with the key 'loss'")

    def after_step(self, step: int, steps: int) -> None:
        """Called after optimiser step `step` of `steps`: momentum encoder, queue, prototype freeze."""

    def before_epoch(self, features: Tensor | None) -> None:
        """Called before an epoch: pseudo-labels from the data set's features (N, D), for methods that cluster.

        A run that goes on in the middle of an epoch does not call it again. What it makes must therefore be in buffers,
        which checkpoints hold and ranks share. The constructor registers one empty where its shape is not known yet:
        `register_buffer("labels", torch.zeros(0, dtype=torch.int64))`, here `self.labels = ...`.
        """

    def players(self) -> dict[str, Parameters]:
        """Parameters by the optimiser that steps them; adversarial methods name two.

        They may come in groups, as torch's optimisers take them: {"params": ..., "constant_learning_rate": True} is
        left out of the schedule.
        """
        return {"model": self.parameters()}

    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Named image rows for the report, (N, C, H, W) in [0, 1]: reconstructions, puzzles; empty by default."""
        return {}


def _fill_empty_buffers(method: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Gives the buffers that the constructor left empty the shapes that they have in the state to load."""
    for name, buffer in method.named_buffers():
        if buffer.numel() == 0 and prefix + name in state:
            buffer.resize_(state[prefix + name].shape)


def _without_colour(view: ViewSpec) -> ViewSpec:
    statistics = {} if len(view.mean) == 1 else {"mean": (0.5,), "std": (0.25,)}
    return view.replace(saturation=0.0, hue=0.0, grayscale=0.0, **statistics)
