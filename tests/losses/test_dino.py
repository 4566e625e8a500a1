"""DINOLoss against lightly's, and against its definition written plainly; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, under_autocast, value_and_gradients

from sslfast.errors import UserError
from sslfast.losses import DINOLoss


def plain(teacher, student, center, teacher_temp=0.04, student_temp=0.1):
    """Every pair of views by itself, in float64."""
    terms = []
    for t, target in enumerate(teacher):
        for s, prediction in enumerate(student):
            if s != t:
                target_share = torch.softmax((target.double() - center.double()) / teacher_temp, 1)
                share = torch.softmax(prediction.double() / student_temp, 1)
                terms.append(-(target_share * share.log()).sum(1).mean())
    return sum(terms) / len(terms)


def on(loss, teachers, **options):
    """`loss` as a function of all views, the first `teachers` of them the teacher's."""
    return lambda *views: loss(list(views[:teachers]), list(views[teachers:]), **options)


def views(count, seed=0):
    return [0.3 * z for z in embeddings(count, seed=seed)]


@pytest.mark.parametrize(("teachers", "students"), [(2, 2), (2, 6), (1, 2), (2, 1)])
def test_equals_the_formula(teachers, students):
    loss = DINOLoss(12)
    loss.center = views(1, seed=1)[0][:1][None]
    center = loss.center.clone()
    given = views(teachers + students)
    ours = value_and_gradients(on(loss, teachers), *given)
    wanted = value_and_gradients(on(lambda t, s: plain(t, s, center[0]), teachers), *given)
    assert_equal(ours, wanted)
    moved = 0.9 * center + 0.1 * torch.stack(given[:teachers]).mean((0, 1))
    torch.testing.assert_close(loss.center, moved)


def test_equals_lightly():
    theirs_class = pytest.importorskip("lightly.loss").DINOLoss
    options = {"warmup_teacher_temp": 0.02, "teacher_temp": 0.07, "warmup_teacher_temp_epochs": 3, "student_temp": 0.2}
    ours, theirs = DINOLoss(12, **options), theirs_class(12, **options)
    calls = [{"epoch": epoch} for epoch in range(5)] + [{}, {"teacher_temp": 0.05}]
    for step, call in enumerate(calls):
        given = views(6, seed=step)
        assert_equal(
            value_and_gradients(on(ours, 2, **call), *given), value_and_gradients(on(theirs, 2, **call), *given)
        )
        torch.testing.assert_close(ours.center, theirs.center)
    ours.load_state_dict(theirs.state_dict())


def test_two_batches_before_backward():
    """Moving the center leaves the graph of the batch before alone."""
    loss, given = DINOLoss(12), [view.requires_grad_() for view in views(4)]
    first = on(loss, 2)(*given)
    on(loss, 2)(*given)
    assert_equal(torch.autograd.grad(first, given), value_and_gradients(on(DINOLoss(12), 2), *views(4))[1:])


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    given = [view.to(dtype) for view in views(4)]
    ours = value_and_gradients(on(DINOLoss(12), 2), *given)
    wanted = value_and_gradients(
        on(lambda t, s: plain(t, s, torch.zeros(1, 12)), 2), *(view.double() for view in given)
    )
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), wanted[0], rtol=1e-5, atol=1e-5)
    for got, want in zip(ours[1:], wanted[1:], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-4)


def test_autocast_does_not_round():
    exact = value_and_gradients(on(DINOLoss(12), 2), *views(4))
    assert_equal(value_and_gradients(under_autocast(on(DINOLoss(12), 2)), *views(4)), exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ([(3, 4)], [(3, 4)], "no two different views"),
        ([], [(3, 4), (3, 4)], "no two different views"),
        ([(3, 4)], [(3, 4), (2, 4)], r"student_out\[1\] \(2, 4\) must have the same shape"),
        ([(3, 5)], [(3, 5), (3, 5)], "output_dim=5"),
    ],
)
def test_bad_outputs(teacher, student, message):
    with pytest.raises(UserError, match=message):
        DINOLoss(4)([torch.ones(shape) for shape in teacher], [torch.ones(shape) for shape in student])


def test_bad_options():
    given = [torch.ones(3, 4)] * 2
    for option in ("output_dim", "warmup_teacher_temp", "teacher_temp", "student_temp"):
        with pytest.raises(UserError, match=option):
            DINOLoss(**{"output_dim": 4, option: 0})
    with pytest.raises(UserError, match="'median'"):
        DINOLoss(4, center_mode="median")
    with pytest.raises(UserError, match="teacher_temp"):
        DINOLoss(4)(given, given, teacher_temp=0)
    with pytest.raises(UserError, match="0 or more"):
        DINOLoss(4)(given, given, epoch=-1)
