"""DINOLoss: the student predicts the centred and sharpened output of the teacher for the other views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows, world_size
from sslfast.losses.inputs import check_between, check_positive, check_whole
from sslfast.ops.checks import at_least_float32, check_embeddings


class DINOLoss(nn.Module):
    """Self-distillation without labels; drop-in for lightly's class of this name.

    With P_t = softmax((teacher - center) / teacher temperature) and Q_s = softmax(student / student temperature), the
    loss is the mean over images and pairs of views t != s of the cross entropy -P_t . log Q_s. View i of the teacher is
    view i of the student. Afterwards the center moves towards the mean teacher output of all ranks.

    It is computed in float32 at least, under autocast as well.

    Args:
        output_dim: length K of the outputs.
        warmup_teacher_temp: teacher temperature in epoch 0; above 0.
        teacher_temp: teacher temperature after the warm-up; above 0.
        warmup_teacher_temp_epochs: 0 or more; in which the teacher temperature moves linearly from one to the
            other.
        student_temp: above 0.
        center_momentum: share of the old center that stays, from 0 to 1.
        center_mode: "mean", the only one.

    Attributes:
        center: (1, 1, K), part of the state dictionary.

    Raises:
        UserError: an option out of its range.

    Source: Caron et al. 2021 (DINO), equations 1 to 4 and algorithm 1.
    """

    center: Tensor

    def __init__(
        self,
        output_dim: int = 65536,
        warmup_teacher_temp: float = 0.04,
        teacher_temp: float = 0.04,
        warmup_teacher_temp_epochs: int = 30,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        center_mode: str = "mean",
    ):
        super().__init__()
        check_positive(
            "DINOLoss",
            warmup_teacher_temp=warmup_teacher_temp,
            teacher_temp=teacher_temp,
            student_temp=student_temp,
        )
        check_whole("DINOLoss", 1, output_dim=output_dim)
        check_whole("DINOLoss", 0, warmup_teacher_temp_epochs=warmup_teacher_temp_epochs)
        check_between("DINOLoss", 0, 1, center_momentum=center_momentum)
        if center_mode != "mean":
            raise UserError(f"DINOLoss: unknown center_mode {center_mode!r}; valid: 'mean'")
        self.teacher_temp = teacher_temp
        self.student_temp = student_temp
        self.center_momentum = center_momentum
        self.warmup_teacher_temp_epochs = warmup_teacher_temp_epochs
        self.teacher_temp_schedule = torch.linspace(warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs)
        self.register_buffer("center", torch.zeros(1, 1, output_dim))

    def forward(
        self,
        teacher_out: Sequence[Tensor],
        student_out: Sequence[Tensor],
        teacher_temp: float | None = None,
        epoch: int | None = None,
    ) -> Tensor:
        """The loss of one batch; moves the center.

        Args:
            teacher_out: one (B, K) a view, float32, float64, float16 or bfloat16.
            student_out: one (B, K) a view, those of the teacher first.
            teacher_temp: teacher temperature; from `epoch` if absent.
            epoch: 0 or more, for the warm-up of the teacher temperature; after the warm-up if absent.

        Returns:
            Scalar, float32 (float64 for float64 outputs), differentiable by both outputs: hand over the teacher's
            without gradient.

        Raises:
            UserError: no two different views, outputs that differ in shape, dtype or device or are not of length K, or
                a teacher temperature or an epoch out of its range.
        """
        self._check(teacher_out, student_out)
        temperature = self._teacher_temperature(teacher_temp, epoch)
        with torch.autocast(teacher_out[0].device.type, enabled=False):
            teacher = torch.stack([at_least_float32(out) for out in teacher_out])
            student = torch.stack([at_least_float32(out) for out in student_out])
            targets = torch.softmax((teacher - self.center) / temperature, dim=-1)
            predicted = torch.log_softmax(student / self.student_temp, dim=-1)
            # Minus the cross entropy of every pair of views, and what is to be left out of its sum.
            likelihood = targets.flatten(1) @ predicted.flatten(1).T
            pairs = likelihood.numel() - min(likelihood.shape)
            loss = (likelihood.trace() - likelihood.sum()) / (pairs * teacher.shape[1])
        self.update_center(teacher)
        return loss

    @torch.no_grad()
    def update_center(self, teacher_out: Tensor) -> None:
        """Moves the center towards the mean of teacher outputs (views, B, K) over views, batch and ranks."""
        mean = teacher_out.mean(dim=(0, 1))
        if world_size() > 1:
            mean = gather_rows(mean[None]).mean(0)
        # Not in place: the graph of the loss may still need the old one.
        self.center = torch.lerp(mean.to(self.center.dtype), self.center, self.center_momentum)

    def _teacher_temperature(self, teacher_temp: float | None, epoch: int | None) -> float:
        if teacher_temp is not None:
            check_positive("DINOLoss", teacher_temp=teacher_temp)
            return teacher_temp
        if epoch is not None:
            check_whole("DINOLoss", 0, epoch=epoch)
        if epoch is None or epoch >= self.warmup_teacher_temp_epochs:
            return self.teacher_temp
        return self.teacher_temp_schedule[epoch].item()

    def _check(self, teacher_out: Sequence[Tensor], student_out: Sequence[Tensor]) -> None:
        if len(teacher_out) == 0 or len(student_out) == 0 or len(teacher_out) + len(student_out) < 3:
            raise UserError(
                f"DINOLoss: {len(teacher_out)} teacher and {len(student_out)} student views hold no two different "
                "views; give at least one of each, and two to one of them"
            )
        names = [f"teacher_out[{i}]" for i in range(len(teacher_out))]
        names += [f"student_out[{i}]" for i in range(len(student_out))]
        check_embeddings("DINOLoss", dict(zip(names, [*teacher_out, *student_out], strict=True)))
        if teacher_out[0].shape[1] != self.center.shape[2]:
            raise UserError(
                f"DINOLoss: outputs have length {teacher_out[0].shape[1]} and the center {self.center.shape[2]}; "
                f"build it with output_dim={teacher_out[0].shape[1]}"
            )
