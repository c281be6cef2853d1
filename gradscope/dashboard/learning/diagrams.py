"""The glossary's diagrams: rulers, stairs and boxes in a row."""

from __future__ import annotations

from gradscope.dashboard.figures.lesson_bars import Bars
from gradscope.dashboard.figures.lesson_boxes import Boxes
from gradscope.dashboard.figures.lesson_dots import Dots
from gradscope.dashboard.figures.lesson_ruler import Ruler
from gradscope.dashboard.learning.picture import Picture, still

_HEALTHY_GAIN = (0.1, 20.0)
DIAGRAMS: dict[str, Picture] = {
    "gain-ruler": Picture(
        still(
            Ruler(
                -9,
                7,
                _HEALTHY_GAIN,
                ((1e-6, "error below 10⁻⁶"), (1e-3, "warning below 10⁻³"), (1e3, "over 10³: explodes")),
                "gradient norm at a layer / at the output",
                2,
            )
        ),
        "Healthy gains lie between 0.1 and 20; below a thousandth the layer hardly learns, above a thousand "
        "gradients explode.",
    ),
    "forward-ruler": Picture(
        still(
            Ruler(
                -6,
                6,
                None,
                ((1e-4, "signal fades"), (1.0, "as large as the input"), (1e4, "signal grows")),
                "size of a layer's output / of the network's input",
                2,
            )
        ),
        "A gain of 1 means that the signal is as large as it came in.",
    ),
    "decade-ruler": Picture(
        still(
            Ruler(
                -3,
                3,
                None,
                ((1e-2, "−2 decades: a hundredth"), (1.0, "0 decades"), (1e3, "+3 decades: 1,000-fold")),
                "a factor; each tick is one decade",
            )
        ),
        "Each decade is a factor of ten: minus two decades are a hundredth.",
    ),
    "update-ruler": Picture(
        still(
            Ruler(
                -10,
                1,
                (1e-4, 5e-2),
                ((1e-9, "nothing moves"), (1e-3, "a thousandth a step"), (0.5, "thrown away")),
                "length of a step / length of the weights",
                2,
            )
        ),
        "Healthy steps move weights by a ten-thousandth to a twentieth of their length; above a half they throw "
        "them away.",
    ),
    "budget": Picture(
        still(Bars((("12 sigmoids", -7.4), ("12 linear layers", -2.8)), "together")),
        "Twelve sigmoids take 7.4 decades, twelve linear layers 2.8; together the first layer gets 10.2 decades less.",
    ),
    "units": Picture(
        still(
            Boxes(
                ("0", "0", "0", "0.7", "0"),
                ("dead", "dead", "dead", "alive", "dead"),
                marked=(3,),
                legend="what five ReLU units put out, for every input of the batch",
            )
        ),
        "Four of five units put out zero for every input.",
    ),
    "numbers": Picture(
        still(
            Boxes(
                ("3·10³⁸", "× 10", "Inf", "− Inf", "NaN"),
                ("largest\nfloat32", "", "infinity", "", "no number"),
                forward="to",
                marked=(2, 4),
            )
        ),
        "The largest float32 times ten is infinity; infinity less infinity is no number.",
    ),
    "norm-arrow": Picture(
        still(Boxes(("3", "4", "√(3² + 4²)", "5"), ("∂L/∂w₁", "∂L/∂w₂", "", "the norm"), marked=(3,))),
        "The norm of the gradient (3, 4) is 5.",
    ),
    "half": Picture(
        still(
            Ruler(
                -14,
                6,
                (6e-8, 65504),
                ((1e-12, "lost: becomes 0"), (1e-3, "as float16 holds it"), (1e5, "lost: Inf")),
                "a number",
                4,
                "what float16 can hold",
            )
        ),
        "float16 holds numbers from 6e-8 to 65,504; smaller gradients become zero.",
    ),
    "overhead": Picture(
        still(
            Boxes(
                ("a step of\ntraining", "watching"),
                ("97 ms", "3 ms"),
                legend="an example: an overhead of 3 %",
                marked=(1,),
            )
        ),
        "Ninety-seven milliseconds of training and three of watching.",
    ),
    "trial": Picture(
        still(
            Boxes(
                ("your\ntraining", "as it is", "the cure", "a random\nchange"),
                ("", "control", "trial", "control"),
                forward="seeds",
                marked=(2,),
                legend="the same training again and again: short runs, several seeds each",
            )
        ),
        "From one training short runs are made: as it is, with the cure, with a random change.",
    ),
    "dots": Picture(
        still(
            Dots(
                (
                    ("as it is", (2.24, 2.31, 2.20, 2.36, 2.28)),
                    ("a random change", (2.33, 2.17, 2.30, 2.09, 2.25)),
                    ("with the cure", (0.41, 0.30, 0.72, 0.22, 0.55)),
                ),
                "loss at the end of each run (an example)",
            )
        ),
        "Five runs each: as it is and with a random change the loss stays at 2.3, with the cure it falls to 0.4.",
    ),
    "verdicts": Picture(
        still(
            Boxes(
                ("✓ Healthy", "■ Watch", "▲ Unhealthy", "▲ Broken"),
                ("nothing\nfound", "warnings", "an error", "the loss is\nno number"),
            )
        ),
        "From healthy over watch and unhealthy to broken.",
    ),
    "severities": Picture(
        still(
            Boxes(
                ("● Note", "■ Warning", "▲ Error"),
                ("worth\nknowing", "it costs you\nsomething", "this does\nnot train"),
            )
        ),
        "A note, a warning, an error, each with its shape.",
    ),
    "ladder": Picture(
        still(
            Boxes(
                ("rule", "finding", "cause", "remedy", "trial"),
                (
                    "looks at\nthe numbers",
                    "what, where,\nsince when",
                    "why, most\nlikely first",
                    "what\nto do",
                    "did it\nhelp?",
                ),
                forward="to",
            )
        ),
        "A rule gives a finding, it has causes, a remedy is aimed at it, a trial measures that.",
    ),
    "follows": Picture(
        still(
            Boxes(
                ("F1\nweights too\nlarge", "F2\ngradients\nexplode", "F3\nloss is NaN"),
                ("the root: cure\nthis first", "follows\nfrom F1", "follows\nfrom F2"),
                forward="to",
                marked=(0,),
            )
        ),
        "Of three findings the first is the root, the others follow from it.",
    ),
    "sites": Picture(
        still(
            Boxes(
                ("input", "layer", "output"),
                ("activation,\nits gradient", "weight, gradient,\nupdate", "activation,\nits gradient"),
                forward="signal",
                backward="gradient",
                marked=(1,),
            )
        ),
        "At a layer's input and output the activation and its gradient are recorded, in it the weight, its "
        "gradient and the update.",
    ),
    "recorded": Picture(
        still(
            Boxes(
                ("0", "1", "2", "3", "4", "8", "16", "32"),
                legend="steps that are recorded in full; of each other step the loss and the gradient norm",
            )
        ),
        "Recorded steps: 0, 1, 2, 3, 4, 8, 16, 32.",
    ),
}
