"""One file, one cure. For now each gives advice in words and code; later each will act and be tried."""

from gradscope.remedies.remedy import Remedy

__all__ = ["Remedy"]
