"""Parts of many ranks -> one run, with runs written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradscope
from gradscope.numerals import ranks_in_words
from gradscope.records import QUANTITIES, SUMMARY, Event, Link, RankFact, Rows, Run
from gradscope.reports.document import document
from gradscope.reports.terminal import render
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.stats import summarise
from gradscope.store import RunReader, list_runs, part_folder, read_run, resolve_run
from gradscope.store import merging as merging_module
from gradscope.store.merging import Merging
from gradscope.store.scaling import scale
from tests.conftest import write_run

torch = pytest.importorskip("torch")


def assert_same_rows(expected: Rows, actual: Rows) -> None:
    """Compares field by field: NaN equals NaN only in a plain array."""
    for name in expected.dtype.names or ():
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def part(rank: int, world: int = 2, *, steps: int = 4, sharded: bool = False, **info: Any) -> Run:
    """What one rank writes of a two-layer training."""
    run = by_hand({"a": 0.5, "b": 1.0}, loss=[float(rank + 1)] * steps, steps=steps)
    sites = tuple(replace(site, sharded=sharded and site.role == "parameter") for site in run.info.sites)
    known = {"rank": rank, "world_size": world, "parallel": "DDP", "averaged": world, "sites": sites, **info}
    return replace(run, info=replace(run.info, **known))


def of(run: Run, path: str, quantity: str, field: str) -> float:
    """One number of the last recorded step."""
    signals = Signals(run)
    role = "parameter" if path.endswith("weight") else "output"
    return float(signals.values(quantity, field)[signals.site(path, role), -1])


def test_activations_add_and_their_gradients_are_scaled() -> None:
    """Each rank saw its share of the batch; the wrapper averages, so a gradient there counts 1/world size."""
    one, both = part(0), Merging().merge([part(0), part(1)])
    assert of(both, "a", "activation", "count") == 2 * of(one, "a", "activation", "count")
    assert of(both, "a", "activation", "sum_squares") == 2 * of(one, "a", "activation", "sum_squares")
    expected = 2 * of(one, "a", "activation_gradient", "sum_squares") / 2**2
    assert of(both, "a", "activation_gradient", "sum_squares") == pytest.approx(expected, rel=1e-12)
    assert Signals(both).backward_gain[Signals(both).site("a"), -1] == pytest.approx(0.5)


def test_what_is_replicated_is_taken_once_and_what_is_sharded_adds() -> None:
    """The same parameter on two ranks is one parameter; two shards are two parts of one."""
    one = of(part(0), "a.weight", "weight", "count")
    assert of(Merging().merge([part(0), part(1)]), "a.weight", "weight", "count") == one
    shards = [part(rank, sharded=True, parallel="FSDP2", shards=2) for rank in (0, 1)]
    assert of(Merging().merge(shards), "a.weight", "weight", "count") == 2 * one


def test_of_several_copies_of_shards_one_counts() -> None:
    """Hybrid sharding, two copies of two shards each: a parameter is the shards of one copy."""
    parts = [part(rank, 4, sharded=True, parallel="FSDP2", shards=2, replica=rank // 2) for rank in range(4)]
    assert of(Merging().merge(parts), "a.weight", "weight", "count") == 2 * of(parts[0], "a.weight", "weight", "count")


def test_norms_over_shards_are_roots_of_sums_of_squares() -> None:
    """The gradient norm of a sharded model is that of all shards; where a shard is missing it is unknown."""
    parts = [part(rank, sharded=True, parallel="FSDP2", shards=2) for rank in (0, 1)]
    assert Merging().merge(parts).steps["gradient_norm"].tolist() == pytest.approx([2**0.5] * 4)
    assert Merging().merge([part(0), part(1)]).steps["gradient_norm"].tolist() == [1.0] * 4
    assert np.isnan(Merging().merge(parts[:1]).steps["gradient_norm"]).all()


def test_the_loss_is_the_mean_over_ranks() -> None:
    """Ranks with losses 1 and 2 have the loss 1.5; a rank that saw none does not count."""
    assert Merging().merge([part(0), part(1)]).steps["loss"].tolist() == [1.5] * 4
    blind = part(1)
    blind.steps["has_loss"] = False
    assert Merging().merge([part(0), blind]).steps["loss"].tolist() == [1.0] * 4


def test_a_rank_that_fell_silent_leaves_the_run_readable() -> None:
    """Steps that not all ranks have are merged from those that have them, their counts tell, and it is said."""
    run = Merging().merge([part(0), part(1, steps=2)])
    assert run.steps["step"].tolist() == [0, 1, 2, 3]
    counts = Signals(run).values("activation", "count")[Signals(run).site("a")]
    assert counts.tolist() == [2000.0, 2000.0, 1000.0, 1000.0]
    assert [str(missing) for missing in run.info.not_observed] == [
        "rank 1: nothing after step 1; other ranks got to step 3"
    ]


def test_a_rank_that_is_a_little_late_is_no_news() -> None:
    """While a training runs, ranks write at slightly different times, and nothing is said about it."""
    run = Merging().merge([part(0, state="recording"), part(1, steps=2, state="recording")])
    assert run.info.not_observed == ()


def test_ranks_that_wrote_nothing_are_named() -> None:
    """Where watch was not called on a rank, the run says which."""
    (missing,) = Merging().merge([part(2, 4)]).info.not_observed
    assert str(missing) == "ranks 0, 1 and 3 of 4: nothing was written there: was watch() called?"


def test_a_rank_without_an_end_is_named() -> None:
    """When others ended and one rank's part just stops, it may have been killed."""
    (missing,) = Merging().merge([part(0), part(1, state="recording")]).info.not_observed
    assert str(missing) == "rank 1: nothing after step 3, and no end: killed, or still at it"


def test_sites_of_ranks_that_met_them_in_another_order_are_one() -> None:
    """Ranks number their sites as they meet them; the merged run has each place once, with its numbers in it."""
    other = part(1)
    order = np.arange(len(other.info.sites))[::-1]
    place = np.argsort(order)
    sites = tuple(
        replace(
            other.info.sites[i],
            same_as=None if other.info.sites[i].same_as is None else int(place[other.info.sites[i].same_as]),
            inputs=tuple(int(place[j]) for j in other.info.sites[i].inputs),
        )
        for i in order
    )
    links = tuple(
        Link(int(place[a.container]), *(None if e is None else int(place[e]) for e in (a.source, a.target)))
        for a in other.info.links
    )
    rows = other.summaries.copy()
    rows["site"] = place[rows["site"]]
    heads = tuple(int(place[head]) for head in other.info.heads)
    turned = replace(other, summaries=rows, info=replace(other.info, sites=sites, links=links, heads=heads))
    plain, mixed = Merging().merge([part(0), part(1)]), Merging().merge([part(0), turned])
    assert (mixed.info.sites, mixed.info.links, mixed.info.heads) == (
        plain.info.sites,
        plain.info.links,
        plain.info.heads,
    )
    assert_same_rows(plain.summaries, mixed.summaries)


def test_a_difference_between_replicas_is_kept_and_said() -> None:
    """The rank whose weight left the others', which parameter, and since when; the diagnosis calls it an error."""
    parts = [part(rank, 4) for rank in range(4)]
    site = Signals(parts[3]).site("b.weight", "parameter")
    rows = parts[3].summaries
    there = (rows["site"] == site) & (rows["quantity"] == QUANTITIES.index("weight")) & (rows["step"] >= 2)
    rows["sum_squares"][there] *= 1.21
    run = Merging().merge(parts)
    assert run.rank_facts == (RankFact("differs", 2, site, "weight", (3,), pytest.approx(0.1)),)
    (finding,) = gradscope.diagnose(run).findings
    assert str(finding) == (
        "error unequal-replicas: Ranks train different models: the weight of b.weight differs on rank 3 since step 2"
    )


def test_rounding_is_no_difference() -> None:
    """Norms that differ by float32 rounding are the same."""
    parts = [part(0), part(1)]
    parts[1].summaries["sum_squares"] *= 1 + 1e-6
    assert Merging().merge(parts).rank_facts == ()


def test_gradients_that_nobody_averages_are_not_compared() -> None:
    """Without a wrapper that is known to average, ranks' gradients are their own; their weights are compared."""
    parts = [part(rank, parallel="", averaged=1) for rank in (0, 1)]
    rows = parts[1].summaries
    rows["sum_squares"][rows["quantity"] == QUANTITIES.index("gradient")] *= 4
    assert Merging().merge(parts).rank_facts == ()


def test_a_rank_with_a_nan_is_named() -> None:
    """A NaN that only rank 3 has is said to be rank 3's."""
    parts = [part(rank, 4) for rank in range(4)]
    site = Signals(parts[3]).site("b")
    rows = parts[3].summaries
    there = (rows["site"] == site) & (rows["quantity"] == QUANTITIES.index("activation")) & (rows["step"] == 1)
    rows["non_finite"][there], rows["nans"][there], rows["sum_squares"][there] = True, 1, np.nan
    parts[3].steps["loss"][1] = np.nan
    findings = gradscope.diagnose(Merging().merge(parts)).findings
    assert findings[0].message.startswith("Loss is NaN since step 1; it began in the activation of b on rank 3")


def test_a_nan_that_every_rank_has_names_no_rank() -> None:
    """What all ranks have is no fact about some of them."""
    parts = [part(0), part(1)]
    for run in parts:
        run.summaries["non_finite"], run.summaries["sum_squares"] = True, np.nan
    assert Merging().merge(parts).rank_facts == ()


def test_parts_that_cannot_be_put_together_are_not() -> None:
    """Pipeline stages are different models: one part is shown, and why the others are not."""
    parts = [part(0), part(1, not_merged="its layers lie on other ranks")]
    run = Merging().merge(parts)
    assert_same_rows(parts[0].summaries, run.summaries)
    assert str(run.info.not_observed[-1]) == "ranks other than 0: its layers lie on other ranks"


def test_events_come_in_order_and_a_value_once() -> None:
    """What every rank logs is told once; what another rank says is marked with its number."""
    first = replace(part(0), events=(Event(0, 1.0, "value", {"name": "accuracy", "value": 0.5}),))
    second = (
        Event(0, 0.5, "warning", {"text": "full disk"}),
        Event(0, 2.0, "value", {"name": "accuracy", "value": 0.4}),
    )
    run = Merging().merge([first, replace(part(1), events=second)])
    assert [(event.kind, event.data) for event in run.events] == [
        ("warning", {"text": "full disk", "rank": 1}),
        ("value", {"name": "accuracy", "value": 0.5}),
    ]


@pytest.mark.parametrize("factor", [0.5, 0.25, 1 / 3, 2.0])
def test_scaled_summaries_are_those_of_scaled_tensors(factor: float) -> None:
    """Every field but the histogram is what summarising the scaled tensor gives; the histogram keeps its total."""
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scaled, expected = scale(summarise(tensor), factor), summarise(tensor * factor)
    for name in SUMMARY.names or ():
        if name != "histogram":
            np.testing.assert_allclose(scaled[name], expected[name], rtol=1e-6, err_msg=name)
    assert scaled["histogram"].sum() == pytest.approx(expected["histogram"].sum())
    cumulative = np.abs(np.cumsum(scaled["histogram"] - expected["histogram"], axis=1))
    assert cumulative.max() < 0.12 * 1000  # a bin is two powers of two wide, and is taken to be evenly filled


def test_scaling_by_a_whole_bin_is_exact() -> None:
    """A factor of 1/4 moves a histogram by one bin of two powers of two."""
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    moved = scale(summarise(tensor), 0.25)["histogram"]
    np.testing.assert_allclose(moved, summarise(tensor * 0.25)["histogram"], atol=1e-9)


def test_a_folder_with_only_the_part_of_rank_2_is_a_run(tmp_path: Path) -> None:
    """Watching on one rank of several is enough, whichever it is."""
    folder = tmp_path / "runs" / "job"
    write_run(part(2, 4), part_folder(folder, 2))
    assert read_run(folder).info.rank == 2
    assert list_runs(tmp_path / "runs") == [folder]
    assert resolve_run(tmp_path / "runs") == folder.resolve()


def test_a_part_can_be_read_by_itself(tmp_path: Path) -> None:
    """Each rank's folder is a run of its own."""
    for rank in (0, 1):
        write_run(part(rank), part_folder(tmp_path / "run", rank))
    assert read_run(tmp_path / "run" / "rank-1").steps["loss"].tolist() == [2.0] * 4


def test_the_report_says_how_many_ranks(tmp_path: Path) -> None:
    """The first lines of a report say how many ranks trained together, and by what."""
    run = Merging().merge([part(rank, 4) for rank in range(4)])
    text = render(document(run, gradscope.diagnose(run), tmp_path))
    assert "Run by-hand: Sequential on 4 ranks (DDP); 4 steps" in text


def test_a_part_that_comes_later_is_taken_in(tmp_path: Path) -> None:
    """A reader that follows a run sees ranks that began to write after it looked first."""
    write_run(part(0), tmp_path / "run")
    reader = RunReader(tmp_path / "run")
    assert reader.read().steps["loss"].tolist() == [1.0] * 4
    write_run(part(1), part_folder(tmp_path / "run", 1))
    assert reader.read().steps["loss"].tolist() == [1.5] * 4


def upto(run: Run, step: int) -> Run:
    """A run as it was when this many steps were closed."""
    rows = run.summaries[run.summaries["step"] < step]
    return replace(run, steps=run.steps[:step], learning_rates=run.learning_rates[:step], summaries=rows)


@pytest.mark.parametrize("late", [0, 3, 12])
def test_following_a_run_gives_what_reading_it_at_once_gives(late: int) -> None:
    """A run that is merged while it grows, one rank later than the other, is the run that is merged at its end."""
    parts, merging = [part(0, steps=40), part(1, steps=40)], Merging()
    for step in range(1, 41):
        merging.merge([upto(parts[0], step), upto(parts[1], max(step - late, 0))])
    followed, once = merging.merge(parts), Merging().merge(parts)
    assert_same_rows(once.summaries, followed.summaries)
    assert_same_rows(once.steps, followed.steps)
    thinned = [replace(run, summaries=run.summaries[run.summaries["step"] % 2 == 0]) for run in parts]
    assert_same_rows(Merging().merge(thinned).summaries, merging.merge(thinned).summaries)


def test_what_all_ranks_are_past_is_merged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following a run touches the newest steps only, however long it has become."""
    parts, merging = [part(0, steps=40), part(1, steps=40)], Merging()
    merging.merge([upto(run, 39) for run in parts])
    merged: list[int] = []
    whole = merging_module._merge_rows
    monkeypatch.setattr(
        merging_module, "_merge_rows", lambda rows, *rest: merged.append(len(rows)) or whole(rows, *rest)
    )
    merging.merge(parts)
    assert 0 < sum(merged) <= sum(len(run.summaries) for run in parts) * (merging_module.BEHIND + 2) / 40


def test_a_training_in_one_process_is_read_as_it_is(tmp_path: Path) -> None:
    """Nothing is merged where there is one process."""
    run = part(0, 1, averaged=1, parallel="")
    assert_same_rows(run.summaries, read_run(write_run(run, tmp_path / "run")).summaries)


@pytest.mark.parametrize(
    ("ranks", "words"),
    [((3,), "rank 3"), ((0, 1), "ranks 0 and 1"), ((0, 1, 2), "ranks 0 to 2"), ((1, 2, 5, 6), "ranks 1, 2, 5 and 6")],
)
def test_ranks_are_named_in_words(ranks: tuple[int, ...], words: str) -> None:
    """Neighbours are named as a range."""
    assert ranks_in_words(ranks) == words
