"""The user's program as it ran, and changes of its lines as unified diffs. Reads no file: the run keeps the text."""

from gradscope.patches.program import Edit, Program

__all__ = ["Edit", "Program"]
