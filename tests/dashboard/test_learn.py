"""The lessons: their numbers are torch's, their words are whole, their recorded runs are those of the demos."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from dash.development.base_component import Component
from torch import nn

from gradscope.catalogue import remedies, rules
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.app import create_app
from gradscope.dashboard.figures.lesson_lines import Curves
from gradscope.dashboard.learning import curves
from gradscope.dashboard.learning.examples import EXAMPLE, example_folder, examples
from gradscope.dashboard.learning.glossary import ENTRIES, anchor, find
from gradscope.dashboard.learning.networks import EPS, Network, flow, network
from gradscope.dashboard.learning.pictures import GROUPS, PICTURES, draw, together
from gradscope.dashboard.learning.topic import GROUPS as TOPIC_GROUPS
from gradscope.dashboard.learning.topic import Topic
from gradscope.dashboard.learning.topics import TOPICS, grouped
from gradscope.dashboard.live import refresh
from gradscope.dashboard.mutes import why_not_kept
from gradscope.dashboard.pages import learn
from gradscope.dashboard.parts.how_to_read import how_to_read
from gradscope.dashboard.parts.rich_text import rich_text
from gradscope.dashboard.parts.term import term
from gradscope.dashboard.runs import Runs
from gradscope.diagnosis import diagnose
from gradscope.errors import RunNotFound
from gradscope.records import SCHEMA_VERSION, Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import read_info, read_run
from tests.conftest import SaveRun
from tests.dashboard.examples import DEMOS, pack, record

NAN = float("nan")
ODD = {
    "one site": by_hand({"a": 1.0}, steps=3),
    "all NaN": by_hand({"a": NAN, "b": NAN}, loss=NAN, steps=3),
    "3,000 sites": by_hand({f"layers.{number}": 1.0 for number in range(3000)}, loss=2.0, steps=3),
}
WANTED = {
    "mse", "binary-cross-entropy", "cross-entropy", "focal", "triplet", "similarity", "adam", "batch-norm", "layer-norm",
    "instance-norm", "group-norm", "dropout", "skip-connections", "vanishing", "exploding", "clipping", "initialisation",
    "skip-cure", "normalisation-cure",
}  # fmt: skip


def of_demo(demo: str) -> list[Topic]:
    """The lessons that a demo's run stands behind."""
    return [topic for topic in TOPICS.values() if topic.demo == demo]


def tensor(values: Any) -> torch.Tensor:
    """Doubles that autograd follows."""
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)


def slope(loss: Any, x: np.ndarray) -> np.ndarray:
    """The derivative of a loss that is summed over `x`, by torch."""
    point = tensor(x)
    (gradient,) = torch.autograd.grad(loss(point).sum(), point)
    return gradient.numpy()


# ---- the numbers that are drawn


def test_the_errors_gradients_are_torchs() -> None:
    """Squared, Huber and absolute error, but at the corner of the last."""
    squared, huber, absolute = curves.squared_error().lines
    zero = torch.zeros(len(squared.x), dtype=torch.float64)
    for line, loss in ((squared, nn.MSELoss), (huber, nn.HuberLoss), (absolute, nn.L1Loss)):
        make = loss(reduction="sum")
        np.testing.assert_allclose(line.y, slope(lambda x, make=make: make(x, zero), line.x), atol=1e-12)


def test_the_binary_cross_entropys_gradients_are_torchs() -> None:
    """On the logit, with a sigmoid too many, and for a squared error."""
    once, twice, squared = curves.binary_cross_entropy().lines
    one = torch.ones(len(once.x), dtype=torch.float64)
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    np.testing.assert_allclose(once.y, -slope(lambda z: loss(z, one), once.x), atol=1e-12)
    np.testing.assert_allclose(twice.y, -slope(lambda z: loss(z.sigmoid(), one), once.x), atol=1e-12)
    np.testing.assert_allclose(squared.y, -slope(lambda z: (z.sigmoid() - 1) ** 2, once.x), atol=1e-12)


def test_the_cross_entropy_and_its_floor_are_torchs() -> None:
    """Once, and with a softmax before it, whose floor is ln(e + 9) - 1."""
    twice, once = curves.cross_entropy().lines
    logits = torch.zeros(len(once.x), curves.CLASSES, dtype=torch.float64)
    logits[:, 0] = torch.tensor(once.x)
    loss, right = nn.CrossEntropyLoss(reduction="none"), torch.zeros(len(once.x), dtype=torch.long)
    np.testing.assert_allclose(once.y, loss(logits, right), atol=1e-12)
    np.testing.assert_allclose(twice.y, loss(logits.softmax(1), right), atol=1e-12)
    assert twice.y.min() == pytest.approx(math.log(math.e + 9) - 1, abs=1e-3)


def test_the_focal_losss_gradients_are_torchs() -> None:
    """For each gamma, in the logit of two classes."""
    for line, gamma in zip(curves.focal().lines, (0, 2, 5, 100), strict=True):

        def loss(z: torch.Tensor, gamma: int = gamma) -> torch.Tensor:
            p = z.sigmoid()
            return -((1 - p) ** gamma) * p.log()

        logits = np.log(line.x / (1 - line.x))
        np.testing.assert_allclose(line.y, np.abs(slope(loss, logits)), atol=1e-9)


def test_the_triplet_loss_is_torchs() -> None:
    """Its values, with distances along a line."""
    loss, gradient = curves.triplet().lines
    anchors, positive = torch.zeros(len(loss.x), 1, dtype=torch.float64), 3.0
    negatives = torch.tensor(positive - loss.x)[:, None]
    make = nn.TripletMarginLoss(margin=curves.MARGIN, reduction="none", eps=0)
    np.testing.assert_allclose(loss.y, make(anchors, anchors + positive, negatives), atol=1e-9)
    np.testing.assert_allclose(gradient.y, slope(lambda gap: torch.relu(gap + curves.MARGIN), loss.x))


def test_the_similarity_losss_gradients_are_torchs() -> None:
    """For each temperature, with 127 other pairs at 0."""
    for line, temperature in zip(curves.similarity().lines, (0.001, 0.01, 0.1, 1.0), strict=True):

        def loss(s: torch.Tensor, temperature: float = temperature) -> torch.Tensor:
            others = torch.zeros(len(s), curves.NEGATIVES, dtype=torch.float64)
            return -torch.cat([s[:, None], others], 1).div(temperature).log_softmax(1)[:, 0]

        np.testing.assert_allclose(line.y, -slope(loss, line.x), rtol=1e-6, atol=1e-9)


def test_adams_moments_are_torchs() -> None:
    """Both moments after every step, and the length of the step for a constant gradient."""
    gradient = curves.noisy_gradient()
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    first, second = curves.moments(gradient)
    for step, (g, m, v) in enumerate(zip(gradient.tolist(), first, second, strict=True), 1):
        weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        state = optimizer.state[weight]
        assert m == pytest.approx(state["exp_avg"].item() / (1 - 0.9**step))
        assert v == pytest.approx(state["exp_avg_sq"].item() / (1 - 0.999**step))
    _, usual, small = curves.adam_step().lines
    for line, eps in ((usual, 1e-8), (small, 1e-16)):
        for g, length in list(zip(line.x.tolist(), line.y.tolist(), strict=True))[::20]:
            point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
            steps = torch.optim.Adam([point], lr=1.0, eps=eps)
            point.grad = torch.tensor([g], dtype=torch.float64)
            steps.step()
            assert length == pytest.approx(-point.item())


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("batch", nn.BatchNorm1d(6)),
        ("layer", nn.LayerNorm([6, 3])),
        ("instance", nn.InstanceNorm1d(6)),
        ("group", nn.GroupNorm(GROUPS, 6)),
    ],
)
def test_the_cells_taken_together_are_those_that_torch_takes(kind: str, norm: nn.Module) -> None:
    """The first number's output depends on exactly the cells that are filled."""
    torch.manual_seed(0)
    x = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    norm.double()(x)[0, 0, 0].backward()
    assert x.grad is not None
    np.testing.assert_array_equal(together(kind), x.grad.numpy() != 0)


def test_dropout_leaves_the_signal_to_noise_that_is_drawn() -> None:
    """mean² over variance of what torch's dropout makes of ones."""
    torch.manual_seed(0)
    line = curves.dropout().lines[0]
    for p in (0.2, 0.5, 0.8):
        kept = nn.functional.dropout(torch.ones(400_000, dtype=torch.float64), p)
        assert np.interp(p, line.x, line.y) == pytest.approx((kept.mean() ** 2 / kept.var()).item(), rel=0.03)


def test_the_activations_derivatives_are_torchs() -> None:
    """ReLU, tanh, sigmoid."""
    for line, activation in zip(curves.derivatives().lines, (torch.relu, torch.tanh, torch.sigmoid), strict=True):
        np.testing.assert_allclose(line.y, slope(activation, line.x), atol=1e-12)


def by_torch(net: Network) -> tuple[np.ndarray, np.ndarray]:
    """What `flow` gives, by autograd."""
    act = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[net.activation]
    h = tensor(net.signal)
    kept = [h]
    for weight in net.weights:
        z = h @ torch.tensor(weight).T
        z = nn.functional.layer_norm(z, (z.shape[1],), eps=EPS) if net.normalised else z
        h = h + act(z) if net.skip else act(z)
        kept.append(h)
    gradients = torch.autograd.grad(h, kept, torch.tensor(net.gradient))
    norms = np.array([g.norm().item() for g in gradients])
    sizes = np.array([each.square().mean().sqrt().item() for each in kept])
    return sizes / sizes[0], norms / norms[-1]


@pytest.mark.parametrize(
    ("kind", "depth"),
    [
        *(
            (kind, curves.DEPTH)
            for kinds in (curves.CHAINS, curves.SCALES, curves.NORMALISED)
            for kind in kinds.values()
        ),
        *((kind, 2 * curves.DEPTH) for kind in curves.SKIPS.values()),
    ],
)
def test_the_gains_along_networks_are_torchs(kind: tuple[str, float, bool, bool], depth: int) -> None:
    """Signal and gradient of every network that is drawn, layer by layer."""
    activation, gain, skip, normalised = kind
    net = network(activation, depth, gain, skip, normalised)
    for ours, theirs in zip(flow(net), by_torch(net), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_clipping_and_descent_are_torchs() -> None:
    """The norm after clip_grad_norm_, and gradient descent on ½λw²."""
    clipped = curves.clipping().lines[1]
    for before, after in list(zip(clipped.x.tolist(), clipped.y.tolist(), strict=True))[::24]:
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        weight.grad = torch.tensor([before], dtype=torch.float64)
        nn.utils.clip_grad_norm_([weight], 1.0)
        assert after == pytest.approx(weight.grad.item(), rel=1e-4)
    for line, rate in zip(curves.learning_rates().lines, (2.5, 1.9, 0.5, 0.02), strict=True):
        weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=rate)
        for distance in line.y:
            assert distance == pytest.approx(abs(weight.item()), abs=1e-9)
            weight.grad = weight.detach().clone()
            optimizer.step()


def test_what_the_lessons_say_of_their_pictures_holds() -> None:
    """The numbers in the captions are those of the curves."""
    ends = {name.replace("\n", " "): y for name, _, y, _ in curves.chains().lines}
    assert round(math.log10(ends["sigmoid, Xavier"][0])) == -13
    assert round(math.log10(ends["tanh, Xavier"][0])) == -1
    assert abs(math.log10(ends["ReLU, He"][0])) < 0.2
    large, _, small = (line.y[0] for line in curves.scales().lines)
    assert (round(math.log10(large)), round(math.log10(small))) == (6, -6)
    with_skips, without = (line.y for line in curves.skips().lines)
    assert 10 < with_skips.max() < 15
    assert with_skips.min() >= 1
    assert round(math.log10(without[0])) == -4
    grown, faded = (line.y[-1] for line in curves.skips_forward().lines)
    assert (round(grown), round(1 / faded, -4)) == (5, 30_000)
    assert all(0.5 < line.y[0] < 1 for line in curves.normalised().lines[1:3])


# ---- words


def test_there_is_a_lesson_for_each_basic() -> None:
    """Losses, Adam, the four norms, dropout, skips, vanishing, exploding, the four cures; every demo has its lesson."""
    assert set(TOPICS) == WANTED
    assert set(grouped()) == set(TOPIC_GROUPS)
    assert sum(map(len, grouped().values())) == len(TOPICS)
    assert all(of_demo(file.stem) for file in DEMOS.glob("*.py"))


def texts(topic: Topic) -> list[str]:
    """All texts of a lesson."""
    captions, sees, do = ([text for pair in part for text in pair[i : i + 1]] for part, i in
                          ((topic.pictures, 1), (topic.sees, 1), (topic.do, 0)))  # fmt: skip
    return [topic.line, topic.shows, *topic.what, *topic.formulas, *topic.wrong, *captions, *sees, *do]


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_a_lesson_is_whole(topic: Topic) -> None:
    """Its pictures, rules, remedies and demo exist, and no markup is left in its words."""
    assert topic.group in TOPIC_GROUPS
    assert {name for name, _ in topic.pictures} <= set(PICTURES)
    assert {rule for rule, _ in topic.sees} <= set(rules())
    assert {remedy for _, remedy in topic.do if remedy} <= set(remedies())
    assert (DEMOS / f"{topic.demo}.py").is_file()
    assert topic.what
    assert topic.formulas
    assert topic.pictures
    assert topic.wrong
    assert topic.do
    for text in texts(topic):
        assert not re.search(r"[_^]\{|\[\[|`", read(rich_text(text)))


def read(parts: Any) -> str:
    """What somebody reads of components."""
    if isinstance(parts, Component):
        return read(getattr(parts, "children", None))
    return "".join(map(read, parts)) if isinstance(parts, list) else str(parts or "")


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_term_is_three_sentences_and_a_picture(entry: Any) -> None:
    """Exactly three, each one sentence, and a picture that exists."""
    assert len(entry.sentences) == 3
    assert all(re.fullmatch(r"[^.?!]([^.?!]|\.(?=\w))*\.", sentence) for sentence in entry.sentences)
    assert entry.picture in PICTURES
    assert entry.topic in {"", *TOPICS}
    assert all(find(also) is entry for also in entry.also)


def test_the_glossary_has_the_words_that_the_pages_use() -> None:
    """Each is found in any of its forms."""
    for word in (
        "backward gain", "forward gain", "gain budget", "decade", "update ratio", "healthy band", "dead units",
        "saturation", "non-finite", "gradient norm", "clipping", "loss scale", "overhead", "trial", "control",
        "random change", "p value", "seed", "verdict", "severity", "rule", "cause", "remedy", "Watch", "error",
    ):  # fmt: skip
        assert find(word) is not None, word


def test_a_term_opens_its_three_sentences() -> None:
    """A button with the word, then a card with sentences, a picture for each theme, and the lesson."""
    shown = term("backward gain", "gains")
    button, card = shown.children
    assert (button.children, button.to_plotly_json()["props"]["aria-expanded"]) == ("gains", "false")
    assert ENTRIES["backward gain"].sentences[0] in read(card)
    assert "/learn/vanishing" in str(card)
    assert read(term("no such word")) == "no such word"


def test_how_to_read_says_what_it_explains() -> None:
    """Its button is named for people who do not see where it stands."""
    button, card = how_to_read("the map", "A row is a layer.", "Blue is small: 10^{−6}.").children
    assert button.to_plotly_json()["props"]["aria-label"] == "How to read the map"
    assert read(card) == "How to read the mapA row is a layer.Blue is small: 10−6."


def test_markup_becomes_components() -> None:
    """Sub- and superscripts, one inside the other, code, terms, lessons."""
    assert rich_text("a_{b}")[1].children == "b"
    inner = rich_text("e^{z_k}")[1].children
    assert (inner[0], inner[1].children, inner[2]) == ("z", "k", "")
    assert rich_text("[[mse|squared error]]")[0].href == "/learn/mse"
    assert read(rich_text("the [[decade|decades]]")[1].children[0]) == "decades"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn(name: str, scheme: str) -> None:
    """Well-formed SVG, nothing outside of it, a sentence for those who do not see it."""
    drawing = ElementTree.fromstring(draw(name, scheme))
    width, height = (float(size) for size in drawing.attrib["viewBox"].split()[2:])
    for shape in drawing:
        for x, y in re.findall(r"([-\d.]+),([-\d.]+)", shape.attrib.get("points", "")):
            assert -1 <= float(x) <= width + 1
            assert -1 <= float(y) <= height + 1
        if shape.tag.endswith("text"):
            assert 0 < float(shape.attrib["y"]) < height
    assert not re.search(r'[" ,](nan|inf)[" ,]', draw(name, scheme))
    assert len(PICTURES[name].alt) > 20


def test_curves_have_their_own_dashes() -> None:
    """No more lines than there are dashes and colours."""
    assert all(len(data.lines) <= 4 for each in PICTURES.values() if isinstance(data := each.data(), Curves))


# ---- recorded runs


@pytest.mark.parametrize("demo", sorted(DEMOS.glob("*.py")), ids=lambda file: file.stem)
def test_each_demo_has_a_packaged_run_of_it_as_it_is_now(demo: Path) -> None:
    """`make examples` was run since the demo or the format changed; the run is small and names no machine's paths."""
    folder = example_folder(f"{EXAMPLE}{demo.stem}")
    assert folder is not None
    info = read_info(folder.location)
    assert info.schema_version == SCHEMA_VERSION
    assert [(each.path, each.text) for each in info.sources] == [(demo.name, demo.read_text(encoding="utf-8"))]
    assert (info.command, info.directory, info.state) == ((demo.name,), "", "ended")
    assert examples()[demo.stem].stat().st_size < 200_000
    assert why_not_kept(folder)  # nothing is written into it


EXPECTED = {
    "adam": "learning-rate-too-low",
    "batch_norm": "normalization-fault",
    "binary_cross_entropy": "output-loss-mismatch",
    "cross_entropy": "output-loss-mismatch",
    "dropout": "dropout-fault",
    "exploding_gradient": "exploding-gradient",
    "focal_loss": "output-loss-mismatch",
    "group_norm": "normalization-fault",
    "healthy": None,
    "layer_norm": "normalization-fault",
    "similarity_loss": "exploding-gradient",
    "skip_connection": "vanishing-gradient",
    "squared_error": "unscaled-data",
    "triplet_loss": "exploding-gradient",
    "vanishing_gradient": "vanishing-gradient",
}


@pytest.mark.parametrize(("demo", "rule"), EXPECTED.items(), ids=EXPECTED)
def test_the_packaged_run_shows_what_its_lessons_are_about(demo: str, rule: str | None) -> None:
    """Its first finding is by a rule that each of the lessons names; the healthy one has none."""
    folder = example_folder(f"{EXAMPLE}{demo}")
    assert folder is not None
    recorded = read_run(folder.location)
    found = [each.rule for each in diagnose(recorded, Signals(recorded)).findings]
    assert (found or [None])[0] == rule
    if rule:
        assert all(rule in dict(topic.sees) for topic in of_demo(demo))


def test_packing_a_run_keeps_what_it_says(tmp_path: Path) -> None:
    """A demo that is recorded and packed anew gets the same diagnosis as before packing, without a machine's paths."""
    run = record(DEMOS / "adam.py", tmp_path)
    pack(run, tmp_path / "adam.zip")
    packed = read_run(f"zip://adam::{tmp_path / 'adam.zip'}")
    recorded = read_run(run)
    assert diagnose(packed, Signals(packed)).headline == diagnose(recorded, Signals(recorded)).headline
    assert packed.summaries.tobytes() == recorded.summaries.tobytes()
    assert packed.steps.tobytes() == recorded.steps.tobytes()
    assert str(tmp_path) not in str(packed.info)


# ---- the pages


def drawn(folder: Path, path: str) -> dict[str, Any]:
    """The outputs of a page."""
    return refresh(learn.PAGE, Runs(folder), parse(path), "light", None)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_lesson_is_drawn_with_its_run(tmp_path: Path, topic: str) -> None:
    """In an empty folder too: the packaged run's own verdict stands beside it."""
    outputs = drawn(tmp_path, f"/learn/{topic}")
    assert outputs["problem"] == []
    said, demo = read(outputs["run"]), TOPICS[topic].demo
    recorded = Runs(tmp_path).get(f"{EXAMPLE}{demo}")
    assert recorded.diagnosis.headline in said
    assert f"/run/example%3A{demo}" in str(outputs["run"])
    assert TOPICS[topic].title in read(outputs["lesson"])


def of_script(run: Run, script: str) -> Run:
    """The run as if a script had been watched."""
    return dataclasses.replace(run, info=dataclasses.replace(run.info, command=(script, "--lr", "1")))


def test_a_run_of_the_demo_in_the_folder_comes_first(save_run: SaveRun, tmp_path: Path) -> None:
    """The newest run whose command is the demo's; the packaged one is a link away."""
    save_run(of_script(by_hand({"a": 1.0, "b": 1.0}, loss=1.0, steps=3), "elsewhere/adam.py"), "runs/mine")
    outputs = drawn(tmp_path / "runs", "/learn/adam")
    assert "/run/mine" in str(outputs["run"])
    assert "/run/example%3Aadam" in str(outputs["run"])
    assert "/run/mine" not in str(drawn(tmp_path / "runs", "/learn/dropout")["run"])


@pytest.mark.parametrize("name", ODD)
def test_odd_runs_do_not_break_a_lesson(save_run: SaveRun, tmp_path: Path, name: str) -> None:
    """One site, all NaN, 3,000 sites."""
    save_run(of_script(ODD[name], "adam.py"), "runs/odd")
    outputs = drawn(tmp_path / "runs", "/learn/adam")
    assert outputs["problem"] == []
    assert "/run/odd" in str(outputs["run"])


def test_the_index_names_every_lesson_and_every_word(tmp_path: Path) -> None:
    """With anchors; a lesson that does not exist is said, with the index below."""
    lesson = drawn(tmp_path, "/learn")["lesson"]
    assert all(f"'/learn/{topic}'" in str(lesson) for topic in TOPICS)
    assert all(f"id='{anchor(word)}'" in str(lesson) for word in ENTRIES)
    assert "no lesson “<b>”" in read(drawn(tmp_path, "/learn/%3Cb%3E")["lesson"])


def test_only_packaged_runs_are_reached_by_their_names(tmp_path: Path) -> None:
    """No name leads out of the folder or the package, and the list of runs does not show them."""
    runs = Runs(tmp_path)
    assert runs.names() == []
    assert runs.get(f"{EXAMPLE}adam").diagnosis.verdict == "unhealthy"
    for name in (f"{EXAMPLE}nothing", f"{EXAMPLE}../adam", EXAMPLE):
        with pytest.raises(RunNotFound):
            runs.get(name)


def test_pictures_are_served_in_both_themes(tmp_path: Path) -> None:
    """As SVG; others are not found."""
    client = create_app(tmp_path).server.test_client()
    answer = client.get("/learn/picture/adam-step-dark.svg")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert answer.get_data(as_text=True) == draw("adam-step", "dark")
    assert client.get("/learn/picture/nothing-dark.svg").status_code == 404
    assert Address("learn", topic="adam").href == "/learn/adam"
