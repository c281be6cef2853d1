"""`check_model`: questions to a model before it is trained, each asked of a copy."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.errors import UnusableSample, WatchError
from gradscope.notices import in_a_line
from gradscope.recorder.tensors import tensors_in
from gradscope.records import Evidence
from gradscope.testing.answers import QUESTIONS, Answer, ModelCheck, known
from gradscope.testing.at_init import SIGNAL_RULES, initial_loss, signal_at_init
from gradscope.testing.guess import constant_guess
from gradscope.testing.independence import batch_independence
from gradscope.testing.overfit import overfit_one_batch
from gradscope.testing.reach import gradient_reach
from gradscope.testing.reduction import loss_ratio, sum_or_mean
from gradscope.testing.rules_found import loss_fits_output, other_rules
from gradscope.testing.sample import NOTHING, Batch, batch_of, batches, is_loader
from gradscope.testing.subject import Criterion, Loss, MakeOptimizer, Subject, original, untouched
from gradscope.testing.watching import Watched, is_off, train_watched

WATCHED_STEPS = 5  # by then every rule about initialization has spoken


def check_model(
    model: nn.Module,
    sample: Any,
    *,
    criterion: Criterion | None = None,
    target: Any = NOTHING,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    steps: int = 200,
    batch_dimension: int | None = None,
    ignore: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> ModelCheck:
    """Asks a model that is not trained yet what can be asked of it with one batch, see `QUESTIONS`.

    Everything happens on copies: the model, its buffers, modes and gradients, the optimizer and the random numbers
    stay as they are, bit for bit.

    Args:
        model: any module that `copy.deepcopy` can copy.
        sample: one batch: a tensor; a tuple, whose last entry is the target when there is a criterion, and which else
            holds the model's arguments; a dict of keyword arguments; or a DataLoader, of which the first batch is taken.
            Some 16 samples or more of the real data say most.
        criterion: the loss of output and target, or of the output alone where there is no target. None: the model gives
            its loss itself, as Transformers models do when they are given labels.
        target: what the output is compared with; for a dict, the name of one of its entries.
        loss: computes the loss from model and sample, for all that `criterion` cannot say, such as a triplet loss.
        optimizer: the one that will train the model, or a function that makes one from parameters. By default the
            model is tried with Adam at several learning rates.
        steps: at most so many are spent on learning one batch by heart.
        batch_dimension: along which samples lie; by default the first.
        ignore: shell patterns of parameters that are frozen or unused on purpose, as in `["encoder.*"]`.
        skip: questions that are not asked.

    Raises:
        UnusableSample: the model cannot be copied, or cannot be run on the sample.
        UnknownId: `skip` names something that is no question.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1))
        >>> check = check_model(model, (torch.randn(16, 4), torch.arange(16) % 3), criterion=nn.CrossEntropyLoss())
        >>> print(check["loss-fits-output"].message)  # the loss takes a softmax itself
        Softmax is taken twice: the loss cannot fall below 0.551 (output-loss-mismatch)
    """
    known("skip=", skip)
    if not isinstance(model, nn.Module):
        raise UnusableSample(f"check_model() expected a torch.nn.Module; it got {type(model).__name__}.")
    model = original(model)
    with untouched(model, sample) as states, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what runs many times here and once in a training
        subject = Subject(model, criterion, loss, optimizer, states)
        one = next(batches(sample)) if is_loader(sample) else sample
        batch = batch_of(one, target, has_criterion=criterion is not None, whole=loss is not None)
        batch = batch if subject.device is None else batch.on(subject.device)
        dimension = _dimension(batch) if batch_dimension is None else batch_dimension
        return _Examination(subject, batch, dimension, steps, tuple(ignore), tuple(skip)).result()


class _Examination:
    """Asks the questions in turn; what one of them cannot ask is said in its answer."""

    def __init__(
        self, subject: Subject, batch: Batch, dimension: int, steps: int, ignore: tuple[str, ...], skip: tuple[str, ...]
    ) -> None:
        self.subject, self.batch, self.dimension = subject, batch, dimension
        self.steps, self.ignore, self.skip = steps, ignore, skip
        self.has_loss = False
        self.watched: Watched | None = None
        self.unwatched = ""  # why not

    def result(self) -> ModelCheck:
        """All answers. Where the first pass gives no finite numbers, nothing else means anything."""
        first = self._finite()
        asked: dict[str, Callable[[], Answer]] = {
            "signal-at-init": lambda: self._of_watched("signal-at-init", signal_at_init),
            "initial-loss": self._initial_loss,
            "loss-fits-output": lambda: self._of_watched("loss-fits-output", loss_fits_output),
            "gradient-reach": lambda: gradient_reach(self.subject.twin(self.batch), self.batch, self.ignore),
            "batch-independence": lambda: batch_independence(
                self.subject.twin(self.batch), self.batch, self.dimension, self.subject.states.restore
            ),
            "sum-or-mean": self._reduction,
            "overfit-one-batch": self._overfit,
            "other-rules": lambda: self._of_watched("other-rules", lambda seen: other_rules(seen, SIGNAL_RULES)),
        }
        answers = [first if "finite" not in self.skip else Answer("finite", "not-applicable", "left out by skip=")]
        if first.outcome != "failed":
            self._watch()
        for question in list(QUESTIONS)[1:]:
            if question in self.skip:
                answers.append(Answer(question, "not-applicable", "left out by skip="))
            elif first.outcome == "failed":
                answers.append(Answer(question, "not-applicable", "its numbers are not finite, see the first question"))
            else:
                answers.append(_asked(question, asked[question]))
        return ModelCheck(self.subject.name, tuple(answers))

    def _finite(self) -> Answer:
        """The first pass: it shows whether the sample can be used at all."""
        twin = self.subject.twin(self.batch)
        try:
            output, loss = twin.run(self.batch)
            if twin.optimizer is not None:
                (twin.objective(self.batch) if loss is None else loss).backward()  # type: ignore[no-untyped-call]
        except UnusableSample:
            raise
        except Exception as error:
            raise UnusableSample(
                f"{self.subject.name} or its loss cannot be run on the sample: {in_a_line(error)}. "
                "A tuple holds the model's arguments, its last entry is the target when criterion= is given; "
                "a dict holds keyword arguments; loss= takes a function of model and sample."
            ) from error
        self.has_loss = loss is not None
        gradients = [p.grad for p in twin.model.parameters() if p.grad is not None]
        weights: Iterable[Tensor] = (p.detach() for p in twin.model.parameters())
        places = {
            "weights": weights,
            "the output": tensors_in(output),
            "the loss": tensors_in(loss),
            "gradients": gradients,
        }
        for what, tensors in places.items():
            broken = sum(
                int((~t.isfinite()).sum()) for t in tensors if t.is_floating_point() and not (t.is_sparse or t.is_meta)
            )
            if broken:
                numbers = "1 number that is" if broken == 1 else f"{broken:,} numbers that are"
                message = (
                    f"{what} {'hold' if what.endswith('s') and what != 'the loss' else 'holds'} {numbers} NaN or Inf"
                )
                advice = "watch(model, …, on_non_finite='locate') says which line makes the first of them"
                evidence = Evidence(f"NaN and Inf in {what}", float(broken), "", 0.0, "0")
                return Answer("finite", "failed", message, (evidence,), advice=advice)
        return Answer(
            "finite", "passed", f"weights, outputs{', loss' if self.has_loss else ''} and gradients are finite"
        )

    def _watch(self) -> None:
        """A few watched steps, which several questions look at."""
        if is_off():
            self.unwatched = "GRADSCOPE=off in the environment"
            return
        twin = self.subject.twin(self.batch)
        if twin.optimizer is None:
            self.unwatched = "nothing requires a gradient"
            return
        try:
            with tempfile.TemporaryDirectory(prefix="gradscope-") as folder:
                self.watched = train_watched(twin, repeat(self.batch), WATCHED_STEPS, Path(folder) / "run")
        except WatchError:
            raise  # an optimizer of another model, say
        except Exception as error:
            self.unwatched = f"a step of training fails: {type(error).__name__}: {error}"

    def _of_watched(self, question: str, ask: Callable[[Watched], Answer]) -> Answer:
        if self.watched is None:
            return Answer(question, "not-applicable", self.unwatched)
        return ask(self.watched)

    def _reduction(self) -> Answer:
        missing = self._no_loss("sum-or-mean")
        if missing is not None:
            return missing
        size = self.batch.size(self.dimension)
        twin = self.subject.twin(self.batch).without_dropout()
        ratios = loss_ratio(twin, self.batch, self.dimension, self.subject.states.restore)
        return sum_or_mean(*ratios, size)

    def _overfit(self) -> Answer:
        missing = self._no_loss("overfit-one-batch")
        if missing is not None:
            return missing
        own = self.subject.optimizer is not None

        def make(rate: float | None) -> Any:
            return self.subject.twin(self.batch, rate)

        return overfit_one_batch(make, self.batch, self.steps, own, self._guess())

    def _initial_loss(self) -> Answer:
        missing = self._no_loss("initial-loss")
        return missing or self._of_watched("initial-loss", lambda seen: initial_loss(seen, self._guess()))

    def _guess(self) -> float:
        """What the best constant output costs."""
        path = None if self.watched is None else self.watched.signals.run.info.loss_path
        return constant_guess(
            path, self.batch.keywords.get("labels") if self.batch.target is NOTHING else self.batch.target
        )

    def _no_loss(self, question: str) -> Answer | None:
        """The answer where there is nothing to be asked."""
        if not self.has_loss:
            return Answer(question, "not-applicable", "no loss is known: pass criterion= and a target, or loss=")
        if not any(parameter.requires_grad for parameter in self.subject.model.parameters()):
            return Answer(question, "not-applicable", "nothing requires a gradient")
        return None


def _asked(question: str, ask: Callable[[], Answer]) -> Answer:
    """The answer, or why there is none: a question that fails by itself says nothing of the model."""
    try:
        return ask()
    except (UnusableSample, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        return Answer(
            question, "not-applicable", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )


def _dimension(batch: Batch) -> int:
    """Along which samples lie: the first dimension, unless the target has one label for each entry of the second."""
    inputs, labels = batch.inputs(), batch.target
    if not isinstance(labels, Tensor) or labels.dim() != 1 or not inputs or inputs[0].dim() < 2:
        return 0
    first, second = inputs[0].shape[:2]
    return 1 if len(labels) == second != first else 0
