"""A diagnosis as text, one file a format. `document` is the truth; every format renders it.

Example:
    >>> from gradscope import records, reports
    >>> from gradscope.reports import terminal
    >>> from gradscope.rules.handwritten import run
    >>> page = reports.document(run({"a": 0.5, "b": 1.0}, loss=0.3), records.Diagnosis("healthy", "Nothing is wrong."))
    >>> terminal.render(page).splitlines()[0]
    '✓ Healthy: Nothing is wrong.'
"""

from gradscope.reports.document import document

__all__ = ["document"]
