"""How long the protocols that train with mini-batches do so."""

from __future__ import annotations

from sslfast.errors import UserError

EPOCHS = 50


def training_steps(
    images: int, batch_size: int, learning_rate: float, epochs: int | None, fewest: int, most: int
) -> tuple[int, int]:
    """Images in a batch, and optimiser steps.

    Args:
        images: how many there are to train on; a batch is no larger than this.
        batch_size: images in a batch.
        learning_rate: only checked.
        epochs: passes over the images, exactly; None makes 50, but at least `fewest` and at most `most` steps.
        fewest, most: bounds on the steps without `epochs`.

    Raises:
        UserError: a value that is not positive, or bounds in the wrong order.
    """
    if batch_size < 1:
        raise UserError(f"evaluation with a batch size of {batch_size}; give 1 or more")
    if not learning_rate > 0.0:
        raise UserError(f"evaluation with a learning rate of {learning_rate:g}; give a number above 0")
    if epochs is not None and epochs < 1:
        raise UserError(f"evaluation with {epochs} epochs; give 1 or more")
    if not 1 <= fewest <= most:
        raise UserError(f"evaluation with at least {fewest} and at most {most} steps; give 1 <= fewest <= most")
    batch_size = min(batch_size, images)
    steps_an_epoch = images // batch_size
    if epochs is not None:
        return batch_size, epochs * steps_an_epoch
    return batch_size, min(max(EPOCHS * steps_an_epoch, fewest), most)
