"""The page as a whole: what is on it, that it needs nothing else, and what happens when parts are missing."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
import torch
import yaml

from sslfast.data import ImageFiles
from sslfast.errors import TrainingError, UserError
from sslfast.report import write_report
from sslfast.train import load_run

SECTIONS = ["results", "training", "pictures", "features", "neighbours", "configuration", "machine"]


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def page(run, open_page):
    path = write_report(run)
    assert path == run / "report.html"
    return open_page(path)


def test_all_sections_are_there_and_linked(page):
    assert list(page.sections) == SECTIONS
    assert [a["href"] for a in page.all("a")] == [f"#{name}" for name in SECTIONS]
    assert all(len(squeeze(text)) > 15 for text in page.sections.values())
    assert not [attributes for _, attributes in page.elements if attributes.get("class") == "missing"]


def test_page_needs_nothing_else(page):
    source = re.sub(r'"data:image/png;base64,[^"]*"', '""', page.source)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", source, flags=re.IGNORECASE)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) > 8 and all(source.startswith("data:image/png;base64,") for source in sources)
    targets = [value for _, attributes in page.elements for name, value in attributes.items() if name.endswith("href")]
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert targets and all(target.startswith("#") and target[1:] in names for target in targets)


def test_names_within_the_page_are_unique(page):
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    # A marker that two plots share is the same shape under the same name.
    shapes = [
        name for tag, attributes in page.elements if tag in ("path", "clippath") for name in [attributes.get("id")]
    ]
    rest = [name for name in names if name not in shapes]
    assert sorted(rest) == sorted(set(rest))


def test_pictures_and_plots_have_descriptions(page):
    assert all(image.get("alt") for image in page.all("img"))
    plots = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    # One over samples, three curves, PCA and t-SNE.
    assert len(plots) == 6 and all(svg["role"] == "img" and svg["aria-label"] for svg in plots)


def test_plots_follow_the_page_colours(page):
    drawn = re.findall(r"<svg role.*?</svg>", page.source, flags=re.DOTALL)
    assert len(drawn) == 6
    assert all("var(--" in svg for svg in drawn)
    assert not [svg for svg in drawn if re.search(r"(fill|stroke): #", svg)]


def test_results_table(page):
    text = squeeze(page.sections["results"])
    assert "kNN 100 % 80.0 90.0 62.5 72.5 – +17.5 –" in text
    assert "Linear 100 % 84.0 94.0 – – – –" in text
    assert "4 per class 34.0 44.0 – 24.0 34.0 – +10.0" in text


def test_headline(page):
    assert "80.0 %" in page.text and "17.5 points above the random encoder (62.5 %)" in page.text


def test_rows_of_other_data_and_of_other_weights_are_marked(run, open_page):
    rows = json.loads((run / "results.json").read_text())
    known = {name: row for row in rows for name in [(row["protocol"], row["encoder"])]}
    known["knn", "pretrained"]["pretraining_step"] = 1
    known["linear", "pretrained"]["pretraining_step"] = load_run(run).step()
    (run / "results.json").write_text(json.dumps(rows))
    page = open_page(write_report(run))
    text = squeeze(page.sections["results"])
    assert "Setting" not in text and "kNN 100 % 80.0* 90.0 62.5" in text and "Linear 100 % 84.0 94.0" in text
    assert "* Measured at step 1: the run has gone on to step 6 since; sslfast evaluate" in text
    assert "measured at step 1, the run is at step 6" in squeeze(page.text)
    rows.append({**known["linear", "pretrained"], "top1": 33.0, "setting": {"data": "<i>"}})
    (run / "results.json").write_text(json.dumps(rows))
    text = squeeze(open_page(write_report(run)).sections["results"])
    assert "Labels Setting pretrained" in text and "Linear 100 % – 84.0 94.0" in text
    assert "100 % data <i> 33.0 94.0" in text


def test_a_setting_that_all_rows_share_is_said_once(run, open_page):
    rows = [{**row, "setting": {"limit_test": 48}} for row in json.loads((run / "results.json").read_text())]
    (run / "results.json").write_text(json.dumps(rows))
    page = open_page(write_report(run))
    assert page.text.count("limit-test 48") == 1 and "Measured with limit-test 48." in page.text


def test_neighbours_are_judged_by_class(page):
    classes = [figure.get("class", "") for figure in page.all("figure")]
    assert classes.count("query") == 8
    assert classes.count("right") + classes.count("wrong") == 48
    assert f"{classes.count('right')} of 48 have the query's class" in squeeze(page.sections["neighbours"])


def test_curves_of_the_log(page):
    text = squeeze(page.sections["training"])
    assert "Loss," in text and "Learning rate," in text and "Images per second," in text
    assert "Where the time of a step went: data" in text


def test_text_from_files_is_escaped(run, open_page):
    pictures = run / "pictures"
    shutil.copy(pictures / "views.png", pictures / "<img src=x onerror=alert(1)>.png")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text("# <script>alert(2)</script>\n" + config)
    (run / "metrics.csv").write_text("epoch,loss,<i>$x$\n1,2.0,1.0\n2,1.0,3.0\n")
    rows = json.loads((run / "results.json").read_text())
    rows.append({**rows[0], "protocol": "<u>mine</u>", "encoder": "<s>other</s>"})
    (run / "results.json").write_text(json.dumps(rows))
    page = open_page(write_report(run))
    assert not {"script", "i", "u", "s", "b"} & {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    for text in ("<Img src=x onerror=alert(1)>".lower(), "<script>alert(2)</script>", "<i>$x$", "<u>mine</u>"):
        assert text in page.text.lower()
    assert "cup <b>&</b>" not in page.source


def test_what_is_missing_names_its_command(run, open_page):
    (run / "results.json").unlink()
    (run / "metrics.csv").unlink()
    shutil.rmtree(run / "pictures")
    page = open_page(write_report(run))
    assert list(page.sections) == SECTIONS
    assert f"sslfast evaluate '{run}'" in page.sections["results"]
    for name in ("training", "pictures"):
        assert f"sslfast pretrain --resume --out '{run}'" in page.sections[name]
    assert "top-1" not in page.text


def test_data_that_have_moved(run, tmp_path, open_page):
    config = yaml.safe_load((run / "config.yaml").read_text())
    gone = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "root": gone}))
    page = open_page(write_report(run))
    for name in ("features", "neighbours"):
        assert "could not be shown" in page.sections[name] and gone in page.sections[name]
    assert "kNN" in page.sections["results"]


def test_unlabelled_data(run, open_page):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data_options": {"labels": False}}))
    page = open_page(write_report(run))
    assert "18 test images" in page.sections["features"] and "no labels" in page.sections["features"]
    assert not [figure for figure in page.all("figure") if figure.get("class") in ("right", "wrong")]
    assert "have the query's class" not in page.sections["neighbours"] and "apple" not in page.text


def test_files_of_a_dali_run_are_never_in_memory_as_a_whole(run, open_page, monkeypatch):
    pytest.importorskip("nvidia.dali")
    kept = open_page(write_report(run))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "loader": "dali"}))
    monkeypatch.setattr(ImageFiles, "read", None)
    page = open_page(write_report(run))
    assert page.sections["features"] == kept.sections["features"]
    assert page.sections["neighbours"] == kept.sections["neighbours"]
    pictures = [[image.get("src") for image in found.all("img")] for found in (page, kept)]
    assert pictures[0] == pictures[1]


def test_data_without_a_test_split(run, trained, open_page):
    config = yaml.safe_load((run / "config.yaml").read_text())
    flat = str(trained / "data" / "train" / "apple")
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "root": flat}))
    page = open_page(write_report(run))
    assert "8 train images" in page.sections["features"]
    assert "train images most similar" in squeeze(page.sections["neighbours"])


def test_lost_checkpoint(run, open_page):
    (run / "last.ckpt").unlink()
    page = open_page(write_report(run))
    assert "last.ckpt" in page.sections["features"] and "last.ckpt" in page.sections["neighbours"]


@pytest.mark.parametrize(
    ("file", "content", "section"),
    [
        ("results.json", b"[{", "results"),
        ("results.json", b'{"protocol": "knn"}', "results"),
        ("results.json", b'[{"protocol": "knn", "encoder": "pretrained"}]', "results"),
        ("metrics.csv", b"epoch,loss\n1,high\n", "training"),
        ("metrics.csv", b"\xff\xfe\x00", "training"),
        ("pictures/views.png", b"\x89PNG\r\n\x1a\n and no more", "pictures"),
    ],
)
def test_damaged_file_is_named_in_its_section(run, open_page, file, content, section):
    (run / file).write_bytes(content)
    page = open_page(write_report(run))
    assert "could not be shown" in page.sections[section] and str(run / file) in page.sections[section]
    assert [name for name, text in page.sections.items() if "could not be shown" in text] == [section]


def test_collapsed_encoder(run, open_page):
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)

    def erase(value):
        return (
            {name: erase(entry) for name, entry in value.items()}
            if isinstance(value, dict)
            else (torch.zeros_like(value) if isinstance(value, torch.Tensor) and value.is_floating_point() else value)
        )

    torch.save(erase(checkpoint), run / "last.ckpt")
    page = open_page(write_report(run))
    assert "collapsed" in page.sections["features"] and "collapsed" in page.sections["neighbours"]


@pytest.mark.parametrize("exists", [False, True])
def test_folder_that_is_no_run(tmp_path, exists):
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    with pytest.raises(UserError, match="nothing"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_page_that_cannot_be_written(run):
    (run / "report.html").mkdir()
    with pytest.raises(TrainingError, match=r"report\.html"):
        write_report(run)
    assert [path for path in run.iterdir() if path.name.startswith(".")] == []


def test_writing_again_replaces_the_page(run):
    first = write_report(run).read_text()
    (run / "results.json").unlink()
    assert write_report(run).read_text() != first


def test_a_class_whose_name_is_no_text(trained, tmp_path):
    """As a folder may be called that another system made; the page could not be written."""
    run, data = shutil.copytree(trained / "run", tmp_path / "run"), shutil.copytree(trained / "data", tmp_path / "data")
    for split in ("train", "test"):
        (data / split / "apple").rename(data / split / os.fsdecode(b"app\xffle"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(trained / "data"), str(data)))
    assert "app?le" in write_report(run).read_text(encoding="utf-8")
