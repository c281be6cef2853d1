"""Summaries of tensors: every field beside numpy, the sample, the range of every number format, and merging."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, HISTOGRAM_BINS, SUMMARY, Rows, empty_summaries, merge
from gradscope.stats import EXACT_UP_TO, SAMPLE_SIZE, Collector, HostNumber, sample_positions, summarise, take_sample

INF, NAN = math.inf, math.nan
LARGE = (64, 50)  # more than EXACT_UP_TO entries

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
CONTENTS = {
    "one element": [1.7],
    "ordinary": [0.3, -2.0, 5.0, 0.0, 1e-3],
    "all zero": [0.0, 0.0, -0.0],
    "NaN": [1.0, NAN, -3.0],
    "Inf": [1.0, INF, 2.0],
    "-Inf": [-INF, 2.0, 0.0],
    "Inf and -Inf": [INF, -INF, 4.0],
    "everything": [INF, -INF, NAN, 0.0, 2.0],
    "only NaN": [NAN, NAN],
}


def oracle(tensor: torch.Tensor) -> Rows:
    """The slow, obvious summary of every entry of a tensor, one field at a time, shape `[1]`."""
    values = tensor.detach().to(torch.float64).reshape(-1).numpy()
    row = empty_summaries(1)
    finite = values[np.isfinite(values)]
    row["count"] = row["sample_size"] = values.size
    with np.errstate(all="ignore"):
        row["sum_squares"] = math.fsum(value * value for value in values.tolist())
    row["non_finite"] = len(finite) < len(values)
    row["sum"] = math.fsum(finite.tolist())
    row["minimum"], row["maximum"] = min(finite, default=INF), max(finite, default=-INF)
    row["zeros"] = sum(value == 0 for value in values)
    row["nans"] = sum(value != value for value in values)
    row["positive_infs"], row["negative_infs"] = np.sum(values == INF), np.sum(values == -INF)
    for value in finite[finite != 0]:
        exponent = math.frexp(value)[1] - 1  # exact, where log2 rounds
        row["histogram"][0, sum(exponent >= edge for edge in EXPONENT_EDGES)] += 1
    return row


def assert_same(expected: Rows, actual: Rows, tolerance: float = 1e-12) -> None:
    """Two summaries agree in every field."""
    for name in SUMMARY.names or ():
        np.testing.assert_allclose(actual[name], expected[name], rtol=tolerance, atol=1e-300, err_msg=name)


def large(contents: list[float], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of LARGE that holds these numbers over and over."""
    count = math.prod(LARGE)
    return torch.tensor((contents * count)[:count], dtype=torch.float64).to(dtype).reshape(LARGE)


# every field


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_small_tensor_is_summarised_exactly(contents: list[float], dtype: torch.dtype) -> None:
    """Every field of a small tensor's summary is what counting its entries one by one gives."""
    tensor = torch.tensor(contents, dtype=torch.float64).to(dtype)
    assert_same(oracle(tensor), summarise(tensor))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_large_tensor_is_summarised_exactly_on_request(contents: list[float], dtype: torch.dtype) -> None:
    """With exact=True every field of a large tensor is right too."""
    tensor = large(contents, dtype)
    assert_same(oracle(tensor), summarise(tensor, exact=True), 1e-6)


@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS.keys())
def test_norm_and_non_finite_are_exact_without_asking(contents: list[float]) -> None:
    """Count, sum of squares and whether anything is non-finite come from every entry, sample or not."""
    tensor = large(contents, torch.float32)
    expected, actual = oracle(tensor), summarise(tensor)
    for name in ("count", "non_finite"):
        assert actual[name] == expected[name]
    np.testing.assert_allclose(actual["sum_squares"], expected["sum_squares"], rtol=1e-5)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_single_non_finite_entry_among_many_is_never_missed(bad: float) -> None:
    """One NaN or Inf in a million entries is seen, and what kind it is."""
    tensor = torch.ones(1000, 1000)
    tensor[517, 333] = bad
    row = summarise(tensor)
    assert bool(row["non_finite"][0])
    assert row[{"nan": "nans", "inf": "positive_infs", "-inf": "negative_infs"}[str(bad)]] == 1


def test_nothing_at_all_has_a_summary_too() -> None:
    """A tensor without entries gives the summary of nothing."""
    assert_same(empty_summaries(1), summarise(torch.empty(0, 7)))


@pytest.mark.parametrize(
    "tensor",
    [torch.arange(-3, 4), torch.tensor([True, False]), torch.tensor([200, 3], dtype=torch.uint8)],
    ids=["int64", "bool", "uint8"],
)
def test_whole_numbers_are_numbers(tensor: torch.Tensor) -> None:
    """Token indices and masks are summarised like everything else."""
    assert_same(oracle(tensor), summarise(tensor))


def test_a_complex_number_is_two_numbers() -> None:
    """Complex tensors are summarised as their real and imaginary parts."""
    tensor = torch.tensor([3 + 4j, 1 - 2j])
    assert_same(oracle(torch.tensor([3.0, 4.0, 1.0, -2.0])), summarise(tensor))
    assert_same(oracle(torch.tensor([3.0, -4.0, 1.0, 2.0])), summarise(tensor.conj()))
    assert_same(oracle(torch.tensor([-4.0, 2.0])), summarise(tensor.conj().imag))


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_tensor_is_summarised_by_what_it_holds() -> None:
    """A sparse gradient is judged by the entries that it has, added up where one index comes twice."""
    sparse = torch.sparse_coo_tensor(torch.tensor([[1, 1, 4]]), torch.tensor([1.0, 2.0, 5.0]), (9,))
    assert_same(oracle(torch.tensor([3.0, 5.0])), summarise(sparse))
    dense = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    assert_same(oracle(dense), summarise(dense.to_sparse_csr()))


LAYOUTS = {
    "transposed": lambda shape: torch.randn(shape[::-1]).T,
    "strided": lambda shape: torch.randn(2 * shape[0], 3 * shape[1])[::2, ::3],
    "reversed": lambda shape: torch.randn(shape).flip(0),
    "expanded": lambda shape: torch.randn(shape[0], 1).expand(shape),
    "channels last": lambda shape: torch.randn(shape[0], shape[1], 2, 2).to(memory_format=torch.channels_last),
    "a parameter": lambda shape: torch.nn.Parameter(torch.randn(shape)),
    "with history": lambda shape: torch.randn(shape, requires_grad=True) * 2,
}


@pytest.mark.parametrize("shape", [(5, 6), LARGE], ids=["small", "large"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_layout_in_memory_does_not_matter(layout: object, shape: tuple[int, int]) -> None:
    """Views, strides and memory formats change nothing: entries count in their logical order."""
    tensor = layout(shape)  # type: ignore[operator]
    plain = tensor.detach().clone(memory_format=torch.contiguous_format)
    assert_same(oracle(plain), summarise(tensor, exact=True), 1e-6)
    assert_same(summarise(plain), summarise(tensor), 1e-6)


def test_what_is_added_may_change_afterwards() -> None:
    """An in-place operation right after a tensor was added does not reach its summary."""
    small, whole = torch.ones(4), torch.ones(LARGE)
    collector = Collector()
    collector.add(small), collector.add(whole)
    small.zero_(), whole.zero_()
    rows = collector.collect().rows()
    assert rows["sum_squares"].tolist() == [4, math.prod(LARGE)]
    assert rows["maximum"].tolist() == [1, 1]


# the histogram


def bin_of(value: float) -> int:
    """The histogram's bin that a number is counted in."""
    histogram = summarise(torch.tensor([value], dtype=torch.float64))["histogram"][0]
    assert histogram.sum() == 1
    return int(histogram.argmax())


@pytest.mark.parametrize("edge", EXPONENT_EDGES.tolist())
def test_a_power_of_two_on_an_edge_belongs_to_the_bin_above(edge: int) -> None:
    """2^edge opens its bin; the largest number below it is in the one before."""
    assert bin_of(2.0**edge) == bin_of(-(2.0**edge)) == EXPONENT_EDGES.tolist().index(edge) + 1
    assert bin_of(np.nextafter(2.0**edge, 0)) == EXPONENT_EDGES.tolist().index(edge)


def test_magnitudes_beyond_the_edges_have_bins_of_their_own() -> None:
    """The first bin takes what float32 cannot hold for smallness, the last what it cannot for size."""
    assert (bin_of(2.0**-150), bin_of(5e-324), bin_of(2.0**128), bin_of(1e308)) == (
        0,
        0,
        HISTOGRAM_BINS - 1,
        HISTOGRAM_BINS - 1,
    )


def test_float32_denormals_are_told_from_zero() -> None:
    """2^-149, the smallest float32, is no zero and lies in the first of float32's bins."""
    row = summarise(torch.tensor([2.0**-149, 0.0], dtype=torch.float32))
    assert row["zeros"] == 1
    assert row["histogram"][0, 1] == 1


def test_the_histogram_holds_every_finite_number_but_zero() -> None:
    """Zeros, NaN and Inf are counted by their own fields."""
    row = summarise(torch.tensor([0.0, NAN, INF, -INF, 1.0, -4.0]))
    assert row["histogram"].sum() == 2


# the range of the number format


@pytest.mark.parametrize("shape", [(5,), LARGE, (300, 300)], ids=str)
@pytest.mark.parametrize("value", [1e-23, 1e-38, 1e-44, 1e20, 3e38])
def test_the_norm_is_right_over_the_whole_range_of_float32(value: float, shape: tuple[int, ...]) -> None:
    """float32 would square 1e-23 to 0 and 1e20 to Inf; the sum of squares is right, and finite."""
    tensor = torch.full(shape, value)
    row = summarise(tensor)
    expected = math.prod(shape) * float(tensor.flatten()[0].double()) ** 2
    np.testing.assert_allclose(row["sum_squares"], expected, rtol=1e-12)
    assert not row["non_finite"][0]
    assert row["zeros"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_norm_of_a_short_format_does_not_overflow(dtype: torch.dtype) -> None:
    """60,000 squared is beyond float16; its sum of squares is not."""
    tensor = torch.full(LARGE, 60000.0).to(dtype)
    expected = math.prod(LARGE) * float(tensor.flatten()[0]) ** 2
    np.testing.assert_allclose(summarise(tensor)["sum_squares"], expected, rtol=1e-6)


def test_exactly_zero_is_said_from_all_entries() -> None:
    """A large tensor of zeros is recounted, so that "exactly zero" is certain; one tiny entry undoes it."""
    tensor = torch.zeros(LARGE)
    row = summarise(tensor)
    assert row["sample_size"] == row["count"] == row["zeros"]
    tensor[3, 4] = 1e-30
    row = summarise(tensor)
    assert row["zeros"] == row["count"] - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_norm_of_a_large_tensor_keeps_its_digits(dtype: torch.dtype) -> None:
    """The sum of squares of two million numbers is right to a hundred-thousandth."""
    tensor = (torch.randn(1000, 2000, generator=torch.Generator().manual_seed(1)) + 0.1).to(dtype)
    expected = float(tensor.double().square().sum())
    np.testing.assert_allclose(summarise(tensor)["sum_squares"], expected, rtol=1e-5)


# the sample

SHAPES = [(256, 256), (64, 32, 8, 8), (1024, 3), (3, 1024), (10, 1000), (128, 16, 8, 8), (64, 8, 128), (1, 5000, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_sample_sees_every_row_column_and_channel(shape: tuple[int, ...]) -> None:
    """Along each dimension of up to SAMPLE_SIZE every index is met, and equally often within one."""
    coordinates = np.unravel_index(sample_positions(shape), shape)
    for size, met in zip(shape, coordinates, strict=True):
        times = np.bincount(met, minlength=size)
        assert times.max() - times.min() <= 1
        assert (times > 0).sum() == min(size, SAMPLE_SIZE)


def test_the_sample_is_fixed() -> None:
    """A shape is always sampled at the same places, so that samples of two moments can be subtracted."""
    shape = (41, 77)
    first = sample_positions(shape).copy()
    sample_positions.cache_clear()
    np.testing.assert_array_equal(first, sample_positions(shape))
    tensor = torch.randn(shape)
    np.testing.assert_array_equal(take_sample(tensor), tensor.flatten()[torch.from_numpy(first)].numpy())
    assert len(first) == SAMPLE_SIZE


def test_a_small_tensor_is_its_own_sample() -> None:
    """Up to EXACT_UP_TO entries are taken whole."""
    tensor = torch.randn(EXACT_UP_TO)
    np.testing.assert_array_equal(take_sample(tensor), tensor.numpy())


def dead_channels(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Zero in half of the channels."""
    return np.broadcast_to(
        (np.random.default_rng(2).random((1, shape[1])) < 0.5)[(...,) + (None,) * (len(shape) - 2)], shape
    )


def dead_samples(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Zero for half of the batch."""
    return np.broadcast_to(
        (np.random.default_rng(3).random(shape[0]) < 0.5)[(...,) + (None,) * (len(shape) - 1)], shape
    )


PATTERNS = {
    "at random": lambda shape: np.random.default_rng(1).random(shape) < 0.3,
    "dead channels": dead_channels,
    "dead samples": dead_samples,
    "every other column": lambda shape: np.indices(shape)[-1] % 2 == 0,
    "chessboard": lambda shape: np.indices(shape).sum(axis=0) % 2 == 0,
    "upper triangle": lambda shape: np.indices(shape)[0] / shape[0] < np.indices(shape)[1] / shape[1],
}


@pytest.mark.parametrize("shape", [(256, 256), (64, 32, 8, 8), (128, 1000), (1024, 1024), (64, 100, 30)], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_sampled_share_is_within_the_error_of_its_size(pattern: object, shape: tuple[int, ...]) -> None:
    """Zeros are estimated within three binomial deviations of a random sample, patterns of all kinds included."""
    zero = pattern(shape)  # type: ignore[operator]
    tensor = torch.from_numpy(np.where(zero, 0.0, 1.0).astype(np.float32))
    row, share = summarise(tensor), zero.mean()
    assert row["sample_size"] == SAMPLE_SIZE
    assert abs(row["zeros"][0] / zero.size - share) < 3 * math.sqrt(share * (1 - share) / SAMPLE_SIZE)
    np.testing.assert_allclose(row["zeros"] + row["histogram"].sum(), zero.size, rtol=1e-12)


def test_a_sampled_mean_is_within_the_error_of_its_size() -> None:
    """The sum is estimated within three standard errors."""
    tensor = torch.randn(300, 400, generator=torch.Generator().manual_seed(5)) + 2
    row = summarise(tensor)
    assert abs(row["sum"][0] / tensor.numel() - 2) < 3 / math.sqrt(SAMPLE_SIZE)
    assert tensor.min() <= row["minimum"][0] < 0
    assert 4 < row["maximum"][0] <= tensor.max()


def test_a_summary_from_a_sample_alone_stands_for_the_whole() -> None:
    """An update, known from its sample only, gets the count that it stands for and an estimated norm."""
    collector = Collector()
    row = collector.add_sample(np.full(SAMPLE_SIZE, 0.5, np.float32), 10_000)
    summary = collector.collect().rows()[row]
    assert (summary["count"], summary["sample_size"], summary["sum_squares"]) == (10_000, SAMPLE_SIZE, 2500)


# observing changes nothing


def test_random_numbers_are_left_alone() -> None:
    """Summarising draws nothing from torch's or numpy's generators."""
    torch.manual_seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    summarise(torch.ones(LARGE)), summarise(torch.ones(3))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])


def test_the_tensor_is_left_alone() -> None:
    """Neither the numbers nor the version of a tensor change."""
    for tensor in (torch.randn(9), torch.randn(LARGE), torch.tensor([NAN, INF, -INF]), torch.full(LARGE, 1e30)):
        copy, version = tensor.clone(), tensor._version
        summarise(tensor)
        assert tensor._version == version
        assert torch.equal(copy.nan_to_num(), tensor.nan_to_num())


def test_another_default_device_is_no_trouble() -> None:
    """Inside `with torch.device("meta")`, or under another default dtype, the numbers are the same."""
    small, whole = torch.randn(6), torch.randn(LARGE)
    expected = [summarise(small), summarise(whole)]
    sample_positions.cache_clear()
    with torch.device("meta"):
        actual = [summarise(small), summarise(whole)]
        number = HostNumber(small.sum()).value()
    assert_same(expected[0], actual[0])
    assert_same(expected[1], actual[1])
    assert number == float(small.sum())
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(expected[1], summarise(whole))
    finally:
        torch.set_default_dtype(torch.float32)


# several tensors at once


def test_many_tensors_are_summarised_as_each_alone() -> None:
    """Rows come in the order in which tensors were added, whatever their shapes and number formats."""
    tensors = [torch.randn(4), torch.randn(LARGE), torch.randn(4).double(), torch.randn(0), torch.tensor(2.0)]
    tensors += [torch.randn(4), torch.randn(LARGE).bfloat16(), torch.full((2,), NAN)]
    collector = Collector()
    assert [collector.add(tensor) for tensor in tensors] == list(range(len(tensors)))
    assert len(collector) == len(tensors)
    pending = collector.collect()
    assert pending.ready()
    assert_same(np.concatenate([summarise(tensor) for tensor in tensors]), pending.rows())


def test_nothing_added_gives_no_rows() -> None:
    """A collector that was given nothing collects nothing."""
    assert len(Collector().collect().rows()) == 0


@pytest.mark.parametrize("shape", [(7,), (20, 30), LARGE], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_product_of_weight_and_gradient_is_exact(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """<w, ∂L/∂w> is taken over all entries, sampled or not."""
    weight, gradient = torch.randn(shape).to(dtype), torch.randn(*shape, 2).to(dtype)[..., 1]
    collector = Collector()
    row, weight_row = collector.add(gradient), collector.add(weight)
    collector.add_weight_dot(row, weight_row, weight, gradient)
    rows = collector.collect().rows()
    expected = float((weight.double() * gradient.double()).sum())
    size = float(weight.double().norm() * gradient.double().norm())
    assert abs(rows["weight_dot"][row] - expected) < 1e-7 * size
    assert math.isnan(rows["weight_dot"][weight_row])


def test_a_product_with_inf_is_no_number() -> None:
    """Where the gradient is Inf and the weight 0 the product is NaN, without a warning."""
    weight, gradient = torch.tensor([0.0, 1.0]), torch.tensor([INF, 1.0])
    collector = Collector()
    row, weight_row = collector.add(gradient), collector.add(weight)
    collector.add_weight_dot(row, weight_row, weight, gradient)
    assert math.isnan(collector.collect().rows()["weight_dot"][row])


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS.keys())
def test_merging_equals_summarising_together(contents: list[float], dtype: torch.dtype, exact: bool) -> None:
    """Merging the summaries of two tensors gives the summary of both: calls, micro-batches, ranks."""
    first = torch.tensor(contents, dtype=torch.float64).to(dtype)
    second = large([2.0, -0.5, 0.0, 7.0], dtype) if exact else torch.arange(-5, 6).to(dtype)
    together = summarise(torch.cat([first, second.flatten()]), exact)
    merged = merge(np.concatenate([summarise(first, exact), summarise(second, exact)]), np.array([0, 0]), 1)
    assert_same(together, merged, 1e-6 if exact else 1e-12)


def test_merged_samples_estimate_the_whole() -> None:
    """Two sampled summaries merge by addition: counts, estimates and sample sizes."""
    first, second = summarise(torch.zeros(LARGE) + torch.eye(64, 50)), summarise(torch.ones(300, 300))
    merged = merge(np.concatenate([first, second]), np.array([0, 0]), 1)
    assert merged["count"] == math.prod(LARGE) + 90_000
    assert merged["sample_size"] == 2 * SAMPLE_SIZE
    assert merged["zeros"] == first["zeros"]


def test_a_number_on_its_way_can_be_read() -> None:
    """On a CPU a HostNumber is there at once."""
    number = HostNumber(torch.tensor(2.5, dtype=torch.float64))
    assert number.ready()
    assert number.value() == 2.5
