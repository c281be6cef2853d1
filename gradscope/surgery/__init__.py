"""Changes to a model and its optimizers that can be undone: what remedies do with. Torch lives here, not in `remedies`."""

from gradscope.surgery.applied import Applied

__all__ = ["Applied"]
