"""The user's program as it ran, and changes of its lines as unified diffs. The run keeps the text: no file is read."""

from gradscope.patches.edit import Edit
from gradscope.patches.program import Program

__all__ = ["Edit", "Program"]
