"""Models as they are used: from Transformers, built small from their configs, trained with dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.records import Run
from gradscope.signals import Signals
from gradscope.signals.budget import operation_mechanism
from tests.specimens import Specimen, assert_same, batch, gradients_by_torch, tokens, train

transformers = pytest.importorskip("transformers", reason="the `test` extra is not installed")


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Transformers remarks on token numbers that such small vocabularies do not have."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


def gpt2() -> nn.Module:
    """Two blocks; attention by torch's fused function."""
    config = transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=32, n_layer=2, n_head=4, use_cache=False)
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    """Two blocks and a classifier on the first token."""
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config)


def t5() -> nn.Module:
    """An encoder and a decoder that share their embedding with the head."""
    config = transformers.T5Config(
        vocab_size=20, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, use_cache=False
    )
    return transformers.T5ForConditionalGeneration(config)


def vit() -> nn.Module:
    """Two blocks over sixteen patches."""
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_labels=10,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    return transformers.ViTForImageClassification(config)


def resnet() -> nn.Module:
    """Two stages of two basic blocks."""
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic", num_labels=10
    )
    return transformers.ResNetForImageClassification(config)


def language(model: nn.Module, step: int) -> torch.Tensor:
    """The model's own loss on its next token."""
    text = tokens(step, length=8)
    return model(input_ids=text, labels=text).loss


def classes(model: nn.Module, step: int) -> torch.Tensor:
    """The model's own loss on the class of a text, some of it masked."""
    text = tokens(step, length=8)
    mask = (torch.arange(8) < 4 + torch.arange(8)[:, None] % 5).long()
    return model(input_ids=text, attention_mask=mask, labels=text[:, 0] % 3).loss


def translation(model: nn.Module, step: int) -> torch.Tensor:
    """The model's own loss on the second half of a text, given the first."""
    text = tokens(step, length=8)
    return model(input_ids=text[:, :4], labels=text[:, 4:].contiguous()).loss


def pictures(model: nn.Module, step: int) -> torch.Tensor:
    """The model's own loss on digits."""
    pixels, labels = batch(step, 16)
    return model(pixel_values=pixels.view(-1, 1, 8, 8), labels=labels).loss


REAL: dict[str, tuple[Specimen, str]] = {  # and the head
    "GPT-2": (Specimen(gpt2, language), "lm_head"),
    "BERT": (Specimen(bert, classes), "classifier"),
    "T5": (Specimen(t5, translation), "lm_head"),
    "ViT": (Specimen(vit, pictures), "classifier"),
    "ResNet": (Specimen(resnet, pictures), "classifier.1"),
}
_RUNS: dict[str, Run] = {}


@pytest.fixture(params=REAL)
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of which twelve steps are recorded."""
    if request.param not in _RUNS:
        folder = tmp_path_factory.mktemp("real") / "run"
        specimen = REAL[request.param][0]
        assert_same(train(specimen, folder, steps=12), train(specimen, None, steps=12))
        _RUNS[request.param] = gradscope.read_run(folder)
    return str(request.param)


def test_a_real_model_trains_bit_for_bit(name: str) -> None:
    """Twelve steps with dropout leave the losses, gradients, weights and RNG state that they leave without us."""
    assert _RUNS[name].steps["recorded"].all()
    assert _RUNS[name].steps["forwards"].tolist() == [1] * 12


def test_the_head_of_a_real_model_is_no_loss(name: str) -> None:
    """A model that returns its own loss is judged against its logits."""
    info = _RUNS[name].info
    assert [info.sites[head].path for head in info.heads] == [REAL[name][1]]


@pytest.mark.parametrize("last", [3, 11])
def test_a_real_model_is_healthy(name: str, last: int) -> None:
    """At its init and after twelve steps there is not so much as a note, and everything was observed."""
    run = _RUNS[name]
    beginning = Run(
        run.info,
        run.steps[run.steps["step"] <= last],
        run.learning_rates[: last + 1],
        run.summaries[run.summaries["step"] <= last],
        run.events,
    )
    diagnosis = gradscope.diagnose(beginning)
    assert (diagnosis.verdict, diagnosis.findings, diagnosis.not_observed) == ("healthy", (), ())


def test_gradients_of_a_real_model_are_what_torch_says(name: str) -> None:
    """At the output of every module the recorded gradient is that of plain tensor hooks."""
    run = _RUNS[name]
    signals = Signals(run)
    norms = signals.norm("activation_gradient")
    told = gradients_by_torch(REAL[name][0], steps=12)
    assert len(told) > 20
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=1e-4), path


def test_a_joined_gradient_is_each_modules_own_part(tmp_path: Path) -> None:
    """BERT's output layers are given two tensors, one of them shared: both parts count, each tensor's for itself."""
    specimen, _ = REAL["BERT"]
    train(specimen, tmp_path / "run", steps=1)
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    path = "bert.encoder.layer.0.output"
    parts: list[float] = []
    torch.manual_seed(0)
    model = specimen.make()
    layer = model.get_submodule(path)
    original = layer.forward

    def through_copies(*tensors: torch.Tensor) -> torch.Tensor:
        copies = [tensor.view_as(tensor) for tensor in tensors]
        for copy in copies:
            copy.register_hook(lambda gradient: parts.append(float(gradient.double().square().sum())))
        return original(*copies)

    layer.forward = through_copies
    specimen.loss(model, 0).backward()
    assert len(parts) == 2
    squares = signals.values("activation_gradient", "sum_squares")
    inputs = list(signals.sites[signals.site(path)].inputs)
    assert squares[inputs, 0].sum() == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize("make", [gpt2, vit])
def test_attention_by_a_function_is_named(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """Attention that is a function between modules is known for what it is."""
    name = {gpt2: "GPT-2", vit: "ViT"}[make]
    train(REAL[name][0], tmp_path / "run", steps=1)
    links = gradscope.read_run(tmp_path / "run").info.links
    between = [link for link in links if operation_mechanism(link.operations) == "attention"]
    assert len(between) >= 2  # in each block


def test_a_cache_among_the_outputs_is_said(tmp_path: Path) -> None:
    """GPT-2 with its cache on hands out an object full of tensors: it is named once, where it is made."""
    config = transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=32, n_layer=1, n_head=4)
    specimen = Specimen(lambda: transformers.GPT2LMHeadModel(config), language)
    train(specimen, tmp_path / "run", steps=2)
    run = gradscope.read_run(tmp_path / "run")
    assert [str(missing) for missing in run.info.not_observed] == [
        "transformer: its output of type DynamicCache was not looked into"
    ]


def test_tied_embeddings_of_t5_are_one_parameter(tmp_path: Path) -> None:
    """T5's embedding is recorded once, with all its names, and its gradient is the whole one."""
    specimen, _ = REAL["T5"]
    train(specimen, tmp_path / "run", steps=1)
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    shared = signals.site("shared.weight", "parameter")
    assert {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"} <= set(
        signals.sites[shared].aliases
    )
    torch.manual_seed(0)
    model = specimen.make()
    specimen.loss(model, 0).backward()
    assert signals.norm("gradient")[shared, 0] == pytest.approx(float(model.shared.weight.grad.norm()), rel=1e-4)
    assert np.isfinite(signals.update_ratio[shared, 0])
