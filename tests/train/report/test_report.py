"""The report says what happened, for any labels, numbers of classes and outcomes; metrics.json says the same."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import Head, OutputSpec
from edge_runtime.workstation.datasets.samples import Sample, Split
from support.pages import bare, headings
from train.evaluation.calibration import Calibration, rejection, reliability, scores_at
from train.evaluation.metrics import rank, score
from train.fitting.training_state import Epoch, best_epoch
from train.hardware import FLOAT32, Hardware
from train.intake.findings import Finding, Kind, LeftOut, Severity
from train.intake.images import TrainingData
from train.recipe import load_recipe, override

ODD = ("$x^", "_<b>&'\"", "猫 😀", "c3")
PER_PART = {Split.TRAIN: 4, Split.VALIDATION: 4, Split.TEST: 6}


def history_of(*phases):
    """Epochs with these validation accuracies."""
    rows = [(name, accuracy) for name, accuracies in phases for accuracy in accuracies]
    return tuple(Epoch(name, n, 1 / n, 0.5, 1.1 / n, accuracy, 1e-3, 0.5) for n, (name, accuracy) in enumerate(rows, 1))


def images_of(labels, **changes):
    rng = np.random.default_rng(0)
    places = [(split, number) for split, count in PER_PART.items() for number in range(count)]
    samples = [Sample(Path(f"{label}/{split.value}{n}.png"), label, split) for split, n in places for label in labels]
    targets = np.array([labels.index(sample.label) for sample in samples], np.int64)
    images, rows = rng.integers(0, 255, (20, 32, 32, 3), np.uint8), np.arange(len(samples)) % 20
    return replace(TrainingData("set", labels, tuple(samples), images, rows, targets, (), ()), **changes)


def evaluation_of(data, head, wrong_share):
    from train.evaluation.evaluate import Evaluation

    rng, n, labels = np.random.default_rng(1), len(data.samples), len(data.labels)
    probabilities = rng.dirichlet(np.ones(labels), n).astype(np.float32) * np.float32(0.4)
    answers = np.where(rng.random(n) < wrong_share, (data.targets + 1) % labels, data.targets)
    probabilities[np.arange(n), answers] += np.float32(0.6)
    is_sigmoid, test = head is Head.SIGMOID, data.rows(Split.TEST)
    scores, is_right = probabilities[test, answers[test]], (answers == data.targets)[test]
    second, is_second = probabilities[test, 1], data.targets[test] == 1
    return Evaluation(
        OutputSpec(head, 0.4 if is_sigmoid else 0.0, 0.65),
        *(probabilities, answers),
        {split: score(answers[r], data.targets[r], data.labels) for split in Split for r in [data.rows(split)]},
        rank(probabilities[test], data.targets[test], data.labels),
        Calibration(1.5, 0.9, 0.8, reliability(scores, is_right), reliability(scores, is_right)),
        tuple(scores_at(t, second, is_second) for t in (0.4, 0.5) if is_sigmoid),
        rejection(0.65, scores, is_right),
    )


def run_of(labels=("cat", "dog"), wrong_share=0.3, **changes):
    """A finished training that never was."""
    from train.evaluation.evaluate import TrainingResult
    from train.fitting.fit import Fitted, PhaseSpeed

    head = changes.pop("head", Head.SOFTMAX)
    recipe = load_recipe("mobilenetv2")
    recipe = replace(recipe, input=replace(recipe.input, image_size=32), head=replace(recipe.head, kind=head))
    data = changes.pop("data", None) or images_of(labels)
    history = changes.pop("history", history_of(("head", [0.5, 0.8, 0.7]), ("finetune", [0.75, 0.6])))
    best = best_epoch(history)
    assert best
    speeds = {"head": PhaseSpeed(6549.0, 0.015), "finetune": PhaseSpeed(54.0, 0.004)}
    fitted = replace(Fitted(history, best, (2.0, 0.5), speeds, None, 88.0, 33.0), **changes.pop("fitted", {}))
    fields = {"model_name": "model", "recipe": recipe, "backend": "tensorflow 2.21.0", "data": data, "fitted": fitted}
    hardware = Hardware("cpu", ("a processor",), FLOAT32, 0, 1, is_deterministic=True)
    evaluation = evaluation_of(data, head, wrong_share)
    return TrainingResult(**{**fields, "hardware": hardware, "evaluation": evaluation, "seconds": 50.0, **changes})


def sentences_of(run):
    from train.report.page import sentences

    return " ".join(" ".join(sentences(run)).split())


def page_of(run):
    from train.report.page import render_report

    return render_report(run)


@pytest.fixture
def without_drawing(monkeypatch):
    """Leave out what takes a second a page and has no words: plots are not drawn, nothing is augmented."""
    import train.report.page
    import train.report.plots

    monkeypatch.setattr(train.report.plots, "png_url", lambda _figure, _dpi: "data:image/png;base64,")
    monkeypatch.setattr(train.report.page, "augmented_url", lambda _run: None)


def text_of(page):
    """What a reader sees, on one line."""
    visible = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(visible).split())


@pytest.mark.slow
def test_the_page_is_complete_needs_nothing_else_and_is_the_same_each_time():
    page = page_of(run_of())
    assert page == page_of(run_of())
    assert not [part for part in ("http", "<script", "<link", "@import", "url(") if part in bare(page)]
    assert set(re.findall(r'src="([a-z]+:[a-z/]+);', page)) == {"data:image/png", "data:image/jpeg"}
    assert set(headings(page)) > {"Accuracy", "Curves", "Calibration", "Samples by class", "Worst mistakes"}
    assert page.endswith("</html>")
    assert len(page) < 6_000_000


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.75, 0.6], "was not better than the head alone on validation (75.0 % against 80.0 %), so the head's"),
        ([0.75, 0.9], "was better than the head alone on validation: 90.0 % against 80.0 %."),
        ([0.8, 0.6], "was better than the head alone on validation: 80.0 % against 80.0 %, loss 0.275 against 0.550."),
    ],
)
def test_it_says_which_phase_won(accuracies, expected):
    text = sentences_of(run_of(history=history_of(("head", [0.5, 0.8, 0.7]), ("finetune", accuracies))))
    assert f"Fine-tuning {expected}" in text
    assert "Before training, 50.0 % of the validation images were right (loss 2.000)." in text


def test_it_says_when_a_phase_stopped_early_and_what_chance_would_do():
    text = sentences_of(run_of(history=history_of(("head", [0.5]))))
    assert "Kept: head, epoch 1 of 1" in text
    assert "Phase head stopped after 1 of 10 epochs" in text
    assert "Fine-tuning" not in text
    assert "Always answering “cat”, the largest class, would be right on 50.0 % of the test images." in text


@pytest.mark.usefixtures("without_drawing")
def test_labels_and_names_of_files_are_escaped_and_need_be_no_text():
    bad = Sample(Path("dir/\udcff<i>.png"), ODD[0])
    finding = Finding(Kind.TINY, "<u>small</u>", (bad, bad), Severity.WARNING)
    data = images_of(ODD, left_out=(LeftOut(bad, "<s>broken</s>"),), findings=(finding, finding))
    page = page_of(run_of(ODD, data=data))
    page.encode("utf-8")
    assert not [tag for tag in ("<b>&", "<i>.png", "<u>", "<s>") if tag in page]
    text = text_of(page)
    shown = (*ODD, "dir/?<i>.png: <s>broken</s>", "Tiny images (4 files) <u>small</u> (2 times)")
    assert [words for words in shown if words not in text] == []


@pytest.mark.usefixtures("without_drawing")
def test_a_training_resumed_after_its_end_has_no_speeds():
    run = run_of(fitted={"speeds": {}, "feature_images_per_second": None, "before_training": (float("nan"),) * 2})
    text = text_of(page_of(run))
    assert "All phases had ended before this training was resumed, so no speed was measured." in text
    assert "Before training" not in text


@pytest.mark.usefixtures("without_drawing")
def test_a_sigmoid_head_has_a_table_of_thresholds():
    text = text_of(page_of(run_of(head=Head.SIGMOID)))
    assert "“dog” from precision recall F1 accuracy 0.400 (chosen)" in text
    assert "These figures are at the chosen threshold, the curves below at 0.5." in text
    assert "“dog” from" not in text_of(page_of(run_of()))


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("wrong_share", [0.0, 1.0])
def test_all_right_and_all_wrong(wrong_share):
    text = text_of(page_of(run_of(wrong_share=wrong_share)))
    assert ("No test image was answered wrong." in text) == (wrong_share == 0.0)
    assert ("100.0 % right on 12 test images" if wrong_share == 0.0 else "0.0 % right on 12") in text


@pytest.mark.usefixtures("without_drawing")
def test_each_class_has_samples_and_their_number_is_limited():
    from train.report.page import samples_by_class

    run = run_of(("cat", "dog"), wrong_share=0.3)
    test = run.data.rows(Split.TEST)
    samples = samples_by_class(run)
    assert [(sample["label"], sample["images"], len(sample["tiles"])) for sample in samples] == [
        ("cat", 6, 6),
        ("dog", 6, 6),
    ]
    assert sum(sample["right"] for sample in samples) == (run.evaluation.answers == run.data.targets)[test].sum()
    assert {tile["label"] for tile in samples[0]["tiles"]} == {"cat"}
    assert f"cat : {samples[0]['right']} of 6 right" in text_of(page_of(run))
    many = samples_by_class(run_of(tuple(f"class {i:04d}" for i in range(120))))
    assert (len(many), {len(sample["tiles"]) for sample in many}) == (40, {2})
    shares = [sample["right"] / sample["images"] for sample in many]
    assert shares == sorted(shares)


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize(("wrong_share", "count"), [(0.0, 0), (1.0, 6)])
def test_the_worst_mistakes_have_occlusion_maps(wrong_share, count):
    import keras

    from train.report.page import render_report

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    page = render_report(run_of(wrong_share=wrong_share), model)
    assert page.count("and its occlusion map") == count
    assert ("Red: hiding it lowers the score of the wrong answer" in page) == (count > 0)


@pytest.mark.parametrize("count", [7, pytest.param(120, marks=pytest.mark.slow)])
def test_many_classes_stay_readable(count):
    run = run_of(tuple(f"class {i:04d}" for i in range(count)))
    page = page_of(run)
    assert len(page) < 6_000_000
    rest, worst = "all other classes; the coloured ones rank lowest", "The 10 classes with the lowest F1:"
    for text in ("Class numbers as in the table of classes.", "<summary>All 120 classes", rest, worst):
        assert (text in page) == (count == 120)
    assert page.count("Confused most often") == 1


def test_without_augmentation_there_is_no_image_of_it():
    from train.report.page import augmented_url

    off = {"augment.mirror": False, "augment.rotation": 0.0, "augment.mixup": 0.2}
    assert augmented_url(run_of(recipe=override(load_recipe("mobilenetv2"), off))) is None


@pytest.mark.usefixtures("without_drawing")
def test_metrics_are_strict_json_and_say_what_the_report_says():
    from train.rundir import metrics_mapping

    history = history_of(("head", [0.5, 0.8]))
    broken = replace(history[0], loss=float("inf"), val_loss=float("nan"))
    run = run_of(history=(broken, history[1]), fitted={"before_training": (float("nan"),) * 2})
    metrics = json.loads(json.dumps(metrics_mapping(run), allow_nan=False))
    test = run.evaluation.scores[Split.TEST]
    assert metrics["splits"]["test"]["accuracy"] == test.accuracy
    assert metrics["splits"]["test"]["classes"][0]["f1_low"] == test.classes[0].f1_low
    assert metrics["before_training"] == {"loss": None, "accuracy": None}
    assert metrics["best"]["epoch"] == 2
    assert metrics["output"] == {"head": "softmax", "decision_threshold": 0.0, "reject_threshold": 0.65}
    assert metrics["rejection"]["coverage"] == run.evaluation.rejection.coverage
    assert metrics["ranking"]["classes"][1]["roc_auc"] == run.evaluation.ranking[1].roc_auc
    assert metrics["speeds"]["finetune"] == {"images_per_second": 54.0, "feed_share": 0.004}
    assert f"{test.accuracy * 100:.1f} % right on 12 test images" in text_of(page_of(run))


def test_the_confusion_of_very_many_classes_is_a_list_of_what_is_not_zero():
    from train.rundir import metrics_mapping

    run = run_of(tuple(f"class {i:04d}" for i in range(101)))
    test = metrics_mapping(run)["splits"]["test"]
    assert test["confusion"] is None
    dense = np.zeros((101, 101), int)
    for truth, answer, data in test["confusion_counts"]:
        dense[truth, answer] = data
    assert np.array_equal(dense, run.evaluation.scores[Split.TEST].confusion)


def test_findings_are_counted_by_kind():
    from train.rundir import metrics_mapping

    sample = Sample(Path("a.png"), "cat")
    kinds = ((Kind.DUPLICATE, 2), (Kind.DUPLICATE, 3), (Kind.UNBALANCED, 0))
    findings = tuple(Finding(kind, f"{count} files", (sample,) * count, Severity.WARNING) for kind, count in kinds)
    metrics = metrics_mapping(run_of(data=images_of(("cat", "dog"), findings=findings)))
    assert metrics["findings"] == {"duplicate": {"findings": 2, "files": 5}, "unbalanced": {"findings": 1, "files": 0}}
