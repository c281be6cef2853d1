"""What the page answers: a reader who looks at nothing else is asked six questions of each recorded sickness."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit

# for each demo: what is wrong, in which layer, why, what to do; as planted in demos/*.py, not as the page puts it
PLANTED = {
    "vanishing_gradient": ("vanish", r"\b0\b", "activation contracts", "activation"),
    "exploding_gradient": ("explode", r"\b0\b", "init too large", "initiali"),
    "squared_error": ("target", "", "unscaled target", "target"),
    "binary_cross_entropy": ("sigmoid", "", "output activation", "sigmoid|logits"),
    "cross_entropy": ("softmax", "", "output activation", "softmax"),
    "focal_loss": ("focal", "", "loss", "focus|loss|gamma"),
    "similarity_loss": ("grew", "", "learning rate too high", "learning rate|clip"),
    "triplet_loss": ("weights", "", "learning rate too high", "learning rate"),
    "adam": ("too short", "", "learning rate too low", "optimizer|rate"),
    "batch_norm": ("BatchNorm", r"\b1\b", "norm", "norm|batch"),
    "group_norm": ("GroupNorm", r"\b6\b", "norm", "norm"),
    "layer_norm": ("warm-up|post-norm", "", "warmup", "warm"),
    "dropout": ("[Dd]ropout", "", "dropout", "dropout"),
    "skip_connection": ("vanish", r"\b0\b", "skip", "skip|BatchNorm|norm|activation|initiali"),
}

TRIED = "measured on this training|did not help|needs your edit"


@pytest.fixture(scope="module")
def page(shared_visit: Visit, server: str) -> Page:
    """One page for all questions."""
    return shared_visit.open(server, wait="h1")


def section(page: Page, name: str) -> str:
    """What a section of the finding's page says."""
    heading = page.get_by_role("heading", name=name, exact=True)
    return str(heading.evaluate("heading => heading.closest('section, .card').innerText"))


@pytest.mark.parametrize("demo", PLANTED)
def test_the_page_answers(page: Page, server: str, demo: str) -> None:
    """[2] What is wrong? In which layer? Since when? Why? What to do? Did it help?"""
    wrong, layer, why, cure = PLANTED[demo]
    page.goto(f"{server}run/{demo}")
    expect(page.locator("h1")).to_have_text(re.compile(wrong, re.IGNORECASE))
    page.goto(f"{server}run/{demo}/finding/F1")
    expect(page.get_by_role("heading", name="What to do", exact=True)).to_be_visible()
    assert re.search(r"[Ss]ince step 0|[Ss]tep 0|[Ss]teps? \d+", section(page, "When"))
    assert re.search(layer, section(page, "Where"))
    said = section(page, "Why we say this").lower()
    assert re.search(why, said)
    do = section(page, "What to do")
    assert re.search(cure, do, re.IGNORECASE)
    if not re.search(TRIED, do):  # the same cure was tried for what follows from it
        page.goto(f"{server}run/{demo}/finding/F2")
        expect(page.locator("h1")).to_contain_text("F2")
        do = section(page, "What to do")
    assert re.search(TRIED, do)
    if "measured on this training" in do:
        assert re.search(r"[Ss]ickness gone in \d of \d", do)


def test_the_healthy_demo_is_called_healthy(visit: Visit, server: str) -> None:
    """[2] No error, no warning."""
    page = visit.open(f"{server}run/healthy")
    expect(page.locator(".verdict-word")).to_contain_text("healthy")
    assert page.locator(".finding").count() == 0
