"""Arguments of another type or out of their range: one message with cause and cure, whatever the loss."""

import numpy as np
import pytest
import torch

from sslfast import losses
from sslfast.compat import metric_learning, solo
from sslfast.errors import UserError

TWO = torch.eye(4, 3), torch.ones(4, 3)
ARRAY = np.ones((4, 3), dtype=np.float32)
OF_VIEWS = ["NTXentLoss", "DCLLoss", "DCLWLoss", "InfoNCELoss", "BarlowTwinsLoss", "VICRegLoss"]
OF_VIEWS += ["NegativeCosineSimilarity"]
OF_LABELS = {
    "SupConLoss": losses.SupConLoss(),
    "TripletLoss": losses.TripletLoss(),
    "metric learning NTXentLoss": metric_learning.NTXentLoss(),
    "metric learning SupConLoss": metric_learning.SupConLoss(),
    "simclr_loss_func": solo.simclr_loss_func,
}


@pytest.mark.parametrize("temperature", ["0.5", None, [0.5], 1j])
@pytest.mark.parametrize("name", ["NTXentLoss", "DCLLoss", "DCLWLoss", "InfoNCELoss", "SupConLoss"])
def test_temperature_is_a_number(name, temperature):
    with pytest.raises(UserError, match=r"temperature is .* above 0"):
        getattr(losses, name)(temperature)


@pytest.mark.parametrize("temperature", [np.float32(0.5), np.float64(0.5), np.array(0.5)[()], 1])
def test_numbers_of_numpy_are_numbers(temperature):
    assert losses.NTXentLoss(temperature)(*TWO) == losses.NTXentLoss(float(temperature))(*TWO)


@pytest.mark.parametrize("name", OF_VIEWS)
def test_views_are_tensors(name):
    loss = getattr(losses, name)()
    for views in ((ARRAY, ARRAY), (TWO[0], ARRAY), (TWO[0].tolist(), TWO[1])):
        with pytest.raises(UserError, match=r"must be a tensor, got .*torch.as_tensor"):
            loss(*views)


@pytest.mark.filterwarnings("ignore:.*(prototype|beta):UserWarning")
@pytest.mark.parametrize("name", OF_VIEWS)
def test_views_are_dense(name):
    loss = getattr(losses, name)()
    nested = torch.nested.nested_tensor([TWO[1]])
    for other in (TWO[1].to_sparse(), TWO[1].to_sparse_csr(), TWO[1].to_mkldnn(), nested):
        with pytest.raises(UserError, match="must be a dense tensor, got"):
            loss(TWO[0], other)


@pytest.mark.parametrize("bank", [losses.MemoryBankModule((4, 3)), losses.NNMemoryBankModule((4, 3))])
def test_memory_banks_hold_floats(bank):
    for rows in (TWO[0].to(torch.complex64), TWO[0].long(), TWO[0].bool()):
        with pytest.raises(UserError, match="must be a float tensor"):
            bank(rows)


@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_are_tensors(name):
    for embeddings, labels in ((TWO[0], [0, 0, 1, 1]), (TWO[0], np.arange(4)), (ARRAY, torch.arange(4))):
        with pytest.raises(UserError, match=r"must be a tensor, got .*torch.as_tensor"):
            OF_LABELS[name](embeddings, labels)


@pytest.mark.parametrize("views", [[ARRAY, ARRAY], [None, None]])
def test_crops_are_tensors(views):
    with pytest.raises(UserError, match="must be a tensor"):
        losses.SwaVLoss()(views, [])
    with pytest.raises(UserError, match="must be a tensor"):
        losses.DINOLoss(3)(views, views)


@pytest.mark.parametrize(
    ("name", "option", "value", "rule"),
    [
        ("NTXentLoss", "memory_bank_size", "64", "whole numbers"),
        ("NTXentLoss", "memory_bank_size", (64.0, 3), "whole numbers"),
        ("NTXentLoss", "memory_bank_size", None, "whole numbers"),
        ("DINOLoss", "output_dim", 8.5, "whole number of 1"),
        ("DINOLoss", "warmup_teacher_temp_epochs", -1, "whole number of 0"),
        ("DINOLoss", "warmup_teacher_temp_epochs", 1.5, "whole number of 0"),
        ("DINOLoss", "center_momentum", 5, "from 0 to 1"),
        ("DINOLoss", "center_momentum", float("nan"), "from 0 to 1"),
        ("DINOLoss", "student_temp", "0.1", "above 0"),
        ("SwaVLoss", "sinkhorn_iterations", 1.5, "whole number of 1"),
        ("SwaVLoss", "sinkhorn_epsilon", None, "above 0"),
        ("VICRegLoss", "eps", -1, "above 0"),
        ("VICRegLoss", "lambda_param", float("nan"), "0 or more"),
        ("VICRegLoss", "nu_param", float("inf"), "0 or more"),
        ("BarlowTwinsLoss", "lambda_param", float("nan"), "0 or more"),
        ("BarlowTwinsLoss", "lambda_param", "1", "0 or more"),
        ("NegativeCosineSimilarity", "dim", 0.5, "whole number"),
        ("NegativeCosineSimilarity", "eps", -1, "0 or more"),
        ("TripletLoss", "margin", "0.2", "above 0"),
        ("DCLWLoss", "sigma", None, "above 0"),
    ],
)
def test_options(name, option, value, rule):
    with pytest.raises(UserError, match=rf"{option.replace('_', '.')} .*{rule}"):
        getattr(losses, name)(**{option: value})


@pytest.mark.parametrize("epoch", [1.0, "1", -1])
def test_epoch_of_dino(epoch):
    with pytest.raises(UserError, match=r"epoch is .* whole number of 0"):
        losses.DINOLoss(3)([TWO[0]], list(TWO), epoch=epoch)
