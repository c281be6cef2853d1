"""What a remedy is: a cure with an id, the causes it works against, its advice for one finding, and how it acts."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from gradscope.errors import NoPatch, NotApplicable
from gradscope.patches import Edit, Program
from gradscope.records import Finding, Suggestion
from gradscope.signals import Signals

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied


class Remedy(ABC):
    """One cure. A subclass in a file of this package is found by itself.

    Attributes:
        id: the cure, e.g. "gradient-clipping".
        title: what to do, in a few words.
        cures: how well it works against a cause, from 0 to 1, by the cause's id.
        only_for: the rules in whose findings it works against a cause, by the cause's id; any rule's where not said.
        sources: where that is from.
        needs_edit: why it cannot act from outside of the user's program; "" where it can.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    cures: ClassVar[Mapping[str, float]]
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    sources: ClassVar[tuple[str, ...]]
    needs_edit: ClassVar[str] = ""

    @abstractmethod
    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here, with this run's numbers."""

    @abstractmethod
    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste, which names the model `model` and the optimizer `optimizer`."""

    def advice(self, finding: Finding, signals: Signals) -> Suggestion:
        """The remedy aimed at a finding, with the patch of the user's own lines where there is one."""
        why, code = self.why(finding, signals), self.code(finding, signals)
        suggestion = Suggestion(self.id, self.title, why, code, needs_edit=self.needs_edit)
        try:
            location, patch = self.patch(finding, signals)
        except (
            Exception
        ):  # NoPatch; but a program that is written as nobody thought of must not cost the diagnosis either
            return suggestion
        return replace(suggestion, location=location, patch=patch)

    def patch(self, finding: Finding, signals: Signals) -> tuple[str, str]:
        """Where the user's program is to be changed, and the unified diff that changes it.

        Raises:
            NoPatch: nobody can say it as a change of these lines, and why.
        """
        program = Program(signals.run.info)
        if not program.sources:
            raise NoPatch("the run kept no source: record it with `gradscope run`")
        edits = self.edits(finding, signals, program)
        return program.location(edits), program.patch(edits)

    @classmethod
    def page(cls) -> str:
        """The remedy's page as plain text: its docstring, what it works against, and its sources."""
        lines = [cls.id, "=" * len(cls.id), "", f"{cls.title}.", "", inspect.cleandoc(cls.__doc__ or "")]
        lines += [
            "",
            "Works against, from 0 to 1:",
            *(f"    {cause} ({value:g})" for cause, value in cls.cures.items()),
        ]
        if cls.needs_edit:
            lines += ["", f"No trial can apply it from outside: {cls.needs_edit}."]
        lines += ["", "Sources:", *(f"    {source}" for source in cls.sources)]
        return "\n".join(lines)

    def possible(self, signals: Signals) -> bool:
        """Whether there is something in this model that it can be applied to."""
        return True

    def suits(self, finding: Finding) -> float:
        """How well it fits a finding: the confidence of each cause times how well this cures it, summed."""
        return sum(
            cause.confidence * self.cures.get(cause.id, 0.0)
            for cause in finding.causes
            if finding.rule in self.only_for.get(cause.id, (finding.rule,))
        )

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """What `apply` is to be given for this finding, as numbers and words that JSON can hold."""
        return {}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A dose drawn at random, for a trial's control; see `gradscope.trials.random_change`."""
        return {}

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """The smallest change of the user's own lines that does the same, the one that says most first.

        Raises:
            NoPatch: nobody can say it as a change of these lines, and why.
        """
        raise NoPatch(f"no change of single lines does what {self.id} does")

    def apply(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        **dose: Any,
    ) -> Applied:
        """Acts on a training before its first forward. New parameters join the optimizer.

        Args:
            model: is changed in place.
            optimizer: that updates it, or several, or None.
            **dose: as `dose` gives it; what is left out has a usual value.

        Raises:
            NotApplicable: it cannot be applied here, and why; nothing is changed then.
        """
        from gradscope.surgery import Applied

        if self.needs_edit:
            raise NotApplicable(f"{self.id}: {self.needs_edit}")
        optimizers = [] if optimizer is None else list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        applied = Applied()
        try:
            self.act(applied, model, optimizers, **dose)
        except NotApplicable as error:
            applied.undo()
            raise NotApplicable(f"{self.id}: {str(error).removeprefix(f'{self.id}: ')}") from error
        except BaseException:
            applied.undo()
            raise
        return applied

    def act(
        self, applied: Applied, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], **dose: Any
    ) -> None:
        """Makes the changes, each noted in `applied` with its way back; raises `NotApplicable` where it cannot."""
        raise NotApplicable(f"{self.id}: nobody has built yet how it acts")
