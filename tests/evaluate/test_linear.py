"""Logistic regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.extmath import softmax

from sslfast.errors import UserError
from sslfast.evaluate.linear import evaluate_linear, fit_logistic_regression


def noisy_classes(count, seed, dimensions=20, classes=7):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, classes, generator=torch.Generator().manual_seed(99))
    features = torch.randn(count, dimensions, generator=generator)
    scores = features @ mixing + 3.0 * torch.randn(count, classes, generator=generator)
    # Features of very different scales and offsets: standardising matters.
    scale = torch.logspace(-3, 3, dimensions)
    return (features + 2.0) * scale, scores.argmax(dim=1)


@pytest.mark.parametrize("inverse_regularisation", [0.01, 1.0, 100.0])
def test_finds_the_weights_that_scikit_learn_finds(inverse_regularisation):
    features, labels = noisy_classes(400, seed=0)
    features = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    weight, bias = fit_logistic_regression(features, labels, 7, inverse_regularisation)
    expected = LogisticRegression(C=inverse_regularisation, tol=1e-8, max_iter=5000)
    expected.fit(features.double().numpy(), labels.numpy())
    # A constant added to every class changes nothing, so only the differences between biases are defined.
    found = (weight.double().numpy().T, bias.double().numpy() - bias.double().numpy().mean())
    for ours, theirs in zip(found, (expected.coef_, expected.intercept_), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01)

    def objective(weights, biases):
        scores = softmax(features.double().numpy() @ weights.T + biases)
        penalty = 0.5 / (inverse_regularisation * 400) * np.square(weights).sum()
        return log_loss(labels.numpy(), scores, labels=np.arange(7)) + penalty

    least = objective(expected.coef_, expected.intercept_)
    assert objective(*found) == pytest.approx(least, abs=1e-5)


def test_accuracy_is_that_of_a_scikit_learn_pipeline(with_features):
    train, test = noisy_classes(600, seed=0), noisy_classes(500, seed=1)
    subset = torch.arange(0, 600, 2)
    scores = evaluate_linear(with_features(train, test, 7), subset)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=5000))
    pipeline.fit(train[0][subset].double().numpy(), train[1][subset].numpy())
    chances = pipeline.predict_proba(test[0].double().numpy())
    order = np.argsort(-chances, axis=1)
    top1 = 100 * np.mean(order[:, 0] == test[1].numpy())
    top5 = 100 * np.mean((order[:, :5] == test[1].numpy()[:, None]).any(axis=1))
    assert scores.top1 == pytest.approx(top1, abs=0.41)  # two of 500 images may lie on a border
    assert scores.top5 == pytest.approx(top5, abs=0.41)
    assert 30 < top1 < 90


def test_a_constant_feature_and_a_class_without_training_images_do_no_harm(with_features):
    features, labels = noisy_classes(300, seed=0, classes=3)
    constant = torch.cat([features, torch.full((300, 1), 1e4)], dim=1)
    train, test = (constant[:200], labels[:200]), (constant[200:], labels[200:])
    plain = with_features((features[:200], labels[:200]), (features[200:], labels[200:]), 3)
    expected = evaluate_linear(plain, torch.arange(200))
    scores = evaluate_linear(with_features(train, test, 5), torch.arange(200))
    assert scores.top1 == expected.top1
    assert scores.top5 == 100


def test_the_caller_may_have_switched_gradients_off(with_features):
    train = noisy_classes(100, seed=0)
    with torch.no_grad():
        first = evaluate_linear(with_features(train, train, 7), torch.arange(100))
    assert first == evaluate_linear(with_features(train, train, 7), torch.arange(100))
    assert first.top1 > 80


@pytest.mark.parametrize("option", ["inverse_regularisation", "max_iterations"])
def test_options_out_of_range_name_the_cure(with_features, option):
    train = noisy_classes(20, seed=0)
    with pytest.raises(UserError, match="give"):
        evaluate_linear(with_features(train, train, 7), torch.arange(20), **{option: 0})


def test_correlated_features_converge_in_few_iterations():
    """Features that are nearly copies of one another, as those of an untrained network are."""
    features, labels = noisy_classes(400, seed=0)
    other = torch.randn(400, 20, generator=torch.Generator().manual_seed(5))
    features = torch.cat([features, features + 1e-3 * features.std(dim=0) * other], dim=1)
    features = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    few, _ = fit_logistic_regression(features, labels, 7, max_iterations=30)
    many, _ = fit_logistic_regression(features, labels, 7, max_iterations=1000)
    torch.testing.assert_close(few, many, rtol=0, atol=0.02)
    assert many.abs().max() > 0.2


def test_features_that_repeat_one_another_and_hardly_any_penalty():
    features, labels = noisy_classes(200, seed=0)
    features = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    repeated, _ = fit_logistic_regression(features.repeat(1, 3), labels, 7, inverse_regularisation=1e12)
    once, _ = fit_logistic_regression(features, labels, 7, inverse_regularisation=1e12)
    torch.testing.assert_close(repeated.view(3, 20, 7).sum(dim=0), once, rtol=0.05, atol=0.05)
