"""What a lesson is made of.

Texts carry a little markup, see `parts/rich_text.py`: `_{…}` and `^{…}` are sub- and superscripts, backquotes code,
`[[term]]` or `[[term|other words]]` a term of the glossary.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = {
    "Losses": "What is asked of the network, and the gradient that it begins with.",
    "Optimizer": "From gradient to step.",
    "Normalisation": "Which numbers are brought to mean 0 and variance 1 together: that is all the four differ in.",
    "Structure": "What the signal and the gradient pass through.",
    "Sicknesses": "What goes wrong on the way, and how to tell.",
    "The four cures": "What is tried first when gradients vanish or explode.",
}


@dataclass(frozen=True)
class Topic:
    """One lesson.

    Attributes:
        id: in its address.
        line: for the index.
        what: paragraphs.
        formulas: one a line.
        pictures: names of `pictures.PICTURES`, each with how to read it.
        wrong: how it goes wrong.
        sees: ids of rules, each with what it looks at here.
        do: advice, each with the id of the remedy that does it, or "".
        demo: whose recorded run the lesson shows.
        shows: what to look for in that run.
    """

    id: str
    title: str
    group: str
    line: str
    what: tuple[str, ...]
    formulas: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...]
    sees: tuple[tuple[str, str], ...]
    do: tuple[tuple[str, str], ...]
    demo: str
    shows: str
