"""The pages of docs/drop-in: their scripts change in imports only, and give the same losses and weights."""

import importlib.util
import re

import pytest
import torch

from sslfast.data import ImageBatch, build_source

# Page -> libraries that its script needs, and what takes the randomness from its views.
STILL = "cj_prob=0.0, min_scale=1.0, hf_prob={flip}, random_gray_scale=0.0, gaussian_blur=0.0"
NEEDS = {
    "lightly": ["lightly"],
    "lightning": ["lightly", "pytorch_lightning"],
    "pytorch": ["pytorch_metric_learning"],
    "solo-learn": [],
}
CHANGES = {
    "lightly": [("cj_strength=0.5, gaussian_blur=0.0", STILL.format(flip=0.0))],
    "lightning": [
        (
            "BYOLView1Transform(input_size=32, gaussian_blur=0.0)",
            f"BYOLView1Transform(input_size=32, {STILL.format(flip=0.0)})",
        ),
        (
            "BYOLView2Transform(input_size=32, gaussian_blur=0.0)",
            f"BYOLView2Transform(input_size=32, solarization_prob=0.0, {STILL.format(flip=1.0)})",
        ),
        ("pl.Trainer(", "pl.Trainer(accelerator='cpu', enable_progress_bar=False, "),
    ],
    "pytorch": [
        ("scale=(0.2, 1.0)", "scale=(1.0, 1.0)"),
        ("RandomHorizontalFlip()", "RandomHorizontalFlip(p=1.0)"),
        ("p=0.8", "p=0.0"),
        ("p=0.2", "p=0.0"),
    ],
    "solo-learn": [
        ("scale=(0.2, 1.0)", "scale=(1.0, 1.0)"),
        ("p=0.5", "p=1.0"),
        ("p=0.8", "p=0.0"),
        ("p=0.2", "p=0.0"),
    ],
}
# A small learning rate: batch norms of 16 images would make the differences of rounding grow from step to step.
SLOWLY = ("lr=0.06", "lr=0.002")
SCRIPTS = [*((page, []) for page in CHANGES), ("solo-learn", [('method = "simclr"', 'method = "byol"')])]


@pytest.fixture(scope="module")
def images() -> ImageBatch:
    return build_source("shapes", size=32, limit=96).read()


@pytest.mark.parametrize("page", CHANGES)
def test_only_imports_change(page, drop_in):
    changed = re.search(r"^```diff\n(.*?)^```", (drop_in.PAGES / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = changed[1].splitlines()
    assert lines
    before, after = (drop_in.script(page, after) for after in (False, True))
    for line in lines:
        assert re.fullmatch(r"[-+](from \S+ )?import .*", line)
        assert (before if line[0] == "-" else after).count(line[1:] + "\n") == 1
    assert set(after.splitlines()) - set(before.splitlines()) == {line[1:] for line in lines if line[0] == "+"}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.parametrize(("page", "choice"), SCRIPTS, ids=[" ".join([p, *(c[1] for c in cs)]) for p, cs in SCRIPTS])
def test_the_peer_s_results(page, choice, drop_in, images):
    for library in NEEDS[page]:
        pytest.importorskip(library)
    weights, losses = [], []
    for after in (False, True):
        code = drop_in.sized(drop_in.script(page, after), 16, epochs=1, workers=0)
        for old, new in [*CHANGES[page], SLOWLY, *choice]:
            assert code.count(old) == 1
            code = code.replace(old, new)
        variables = drop_in.run(code, images, drop_in.ResNet10)
        weights.append(variables["model"].state_dict())
        losses.append(torch.tensor(variables["losses"]))
    assert len(losses[0]) == 6
    assert losses[0][0] != losses[0][1]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    assert weights[1].keys() == weights[0].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_the_benchmark_runs_every_page(drop_in, monkeypatch):
    """Both sides, both networks; a page whose peer is missing says so."""
    monkeypatch.setattr(drop_in, "IMAGES", 32)
    monkeypatch.setattr(drop_in, "BATCH", 16)
    cases = list(drop_in.cases(drop_in.Setup("cpu", 1)))
    assert len(cases) == 2 * len(CHANGES)
    for case in cases:
        assert next(iter(case.contenders)) == "sslfast"
        page = re.search(r"drop-in/(.*)\.md", case.name)[1]
        missing = [name for name in drop_in.PEERS[page] if importlib.util.find_spec(name) is None]
        for make in case.contenders.values():
            if missing:
                with pytest.raises(ImportError, match=missing[0]):
                    make()
            elif "linear" in case.name:
                assert len(make()()) == 2
