"""For people's own tests: questions to a model before it is trained, and a short training that has to be healthy.

    from gradscope.testing import assert_healthy, check_model

    check_model(model, (images, labels), criterion=nn.CrossEntropyLoss()).raise_if_failed()
    assert_healthy(model, loader, nn.CrossEntropyLoss(), steps=20)

Both work on copies: the model, its buffers, mode and gradients, and the random numbers stay as they are.

preflight.py     check_model: asks all questions of one model and one batch
answers.py       what comes out of it: a ModelCheck with an Answer to each question
sample.py        what the user hands over, as a batch that can be run, doubled, and of which one sample can be replaced
subject.py       copies of the model that can be run on the batch; what keeps the original as it is
watching.py      a few steps of a copy under `watch`, and their diagnosis
at_init.py       initial signal and loss, against theory
guess.py         what the best constant output would cost
reach.py         which parameters no gradient reaches
overfit.py       whether one batch can be learned
independence.py  whether one sample's output depends on another sample
reduction.py     whether the loss is a mean or a sum over the batch
rules_found.py   what the rules find in the watched steps
healthy.py       assert_healthy
words.py         the text of an assertion that failed
plugin.py        the pytest plugin, which imports no torch until a test uses it
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.errors import UnhealthyModel, UnhealthyTraining, UnusableSample
    from gradscope.testing.answers import QUESTIONS, Answer, ModelCheck
    from gradscope.testing.healthy import assert_healthy
    from gradscope.testing.preflight import check_model

__all__ = [
    "QUESTIONS",
    "Answer",
    "ModelCheck",
    "UnhealthyModel",
    "UnhealthyTraining",
    "UnusableSample",
    "assert_healthy",
    "check_model",
]

_HOMES = {
    "gradscope.errors": ("UnhealthyModel", "UnhealthyTraining", "UnusableSample"),
    "gradscope.testing.answers": ("QUESTIONS", "Answer", "ModelCheck"),
    "gradscope.testing.healthy": ("assert_healthy",),
    "gradscope.testing.preflight": ("check_model",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'gradscope.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
