"""The glossary: words for signals, gradients and steps."""

from gradscope.dashboard.learning.entry import Entry

GRADIENTS = (
    Entry(
        "backward gain",
        (
            "How large the loss gradient is at a layer, compared with how large it was at the network's output.",
            "1 means that nothing was lost on the way back; 0.001 means that the layer learns a thousandth as fast.",
            "It is a ratio, so that a converged network, whose gradients are all small, is not taken for a sick one.",
        ),
        "gain-ruler",
        "vanishing",
    ),
    Entry(
        "forward gain",
        (
            "How large the signal is behind a layer, compared with the first layer's.",
            "Before training it should stay near 1, or grow slowly where skip connections add up.",
            "Far from 1 it says that weights start too small or too large, and the gradient will fare likewise.",
        ),
        "forward-ruler",
        "initialisation",
    ),
    Entry(
        "gain budget",
        (
            "Who took how much of the gradient on its way from the output to the first layer, in decades.",
            "Parts add up, because decades of a product are a sum.",
            "It tells whether activations, weights, normalisations or sheer depth are to blame.",
        ),
        "budget",
        "vanishing",
    ),
    Entry(
        "decade",
        (
            "A factor of ten.",
            "Minus three decades are a thousandth, plus two are a hundred-fold.",
            "Gradients are counted in decades because layers multiply, and products become sums that way.",
        ),
        "decade-ruler",
        "vanishing",
        ("decades",),
    ),
    Entry(
        "healthy band",
        (
            "The range that a number had in trainings that went well.",
            "For the backward gain it is 0.1 to 20.",
            "Outside of it is not sick yet: a rule has thresholds of its own, further out, and says them.",
        ),
        "gain-ruler",
        "normalisation-cure",
        ("healthy range",),
    ),
    Entry(
        "depth profile",
        (
            "The backward gain of every layer at one step, from the input on the left to the output on the right.",
            "A line that falls to the left is a gradient that vanishes; one that rises is one that explodes.",
            "A cliff points at one layer, an even slope at all of them.",
        ),
        "chains",
        "vanishing",
    ),
    Entry(
        "gradient norm",
        (
            "The length of the gradient: the root of the sum of its squared entries, over all weights or over "
            "those of one layer.",
            "It says how strongly the loss pulls, not whether it pulls the right way.",
            "A norm that leaps, or grows from step to step, comes before a loss that does.",
        ),
        "norm-arrow",
        "exploding",
    ),
    Entry(
        "update ratio",
        (
            "How far a step moves weights, compared with how large they are.",
            "About a thousandth is usual; a millionth is standing still, a half throws them away.",
            "It is what the learning rate really does, after Adam, clipping and weight decay.",
        ),
        "update-ruler",
        "adam",
    ),
    Entry(
        "learning rate",
        (
            "What the optimizer multiplies its direction with to get a step.",
            "Over 2 / curvature each step lands farther away than it began; far below it nothing moves.",
            "How long steps really are is the update ratio's to say.",
        ),
        "learning-rates",
        "exploding",
    ),
    Entry(
        "warm-up",
        (
            "A learning rate that begins small and grows over the first steps.",
            "A fresh network is curved most, and Adam's moments have seen little yet: long steps do harm there.",
            "A hundred steps are often enough; deep post-norm transformers hardly train without.",
        ),
        "learning-rates",
        "layer-norm",
    ),
    Entry(
        "saturation",
        (
            "An activation that is driven to where it is flat: a sigmoid at 0 or 1, a tanh at −1 or 1.",
            "Its slope there is nearly 0, and no gradient passes.",
            "Inputs or weights that are too large drive units there, and without a gradient they stay.",
        ),
        "derivatives",
        "vanishing",
        ("saturated",),
    ),
    Entry(
        "dead units",
        (
            "Units that put out 0 for every input, so that no gradient passes them.",
            "A ReLU dies when a long step pushes its bias far below 0; it cannot come back by itself.",
            "Some are normal; a layer in which nearly all are dead passes nothing on.",
        ),
        "units",
        "exploding",
        ("dead unit",),
    ),
    Entry(
        "non-finite",
        (
            "Not a usable number: Inf, which is too large to be written, or NaN, which has no value at all.",
            "One of them in a weight makes the whole output NaN, and the next step all weights.",
            "What counts is where it came up first: everything behind only inherited it.",
        ),
        "numbers",
        "exploding",
        ("NaN", "Inf"),
    ),
    Entry(
        "clipping",
        (
            "Shortening gradients that are longer than a bound.",
            "By norm it keeps their direction; by value it does not.",
            "It bounds what one bad batch can do, and hides why the gradient was long.",
        ),
        "clipping",
        "clipping",
    ),
    Entry(
        "loss scale",
        (
            "A factor by which the loss is multiplied before the backward pass in float16, and gradients divided "
            "after it.",
            "Small gradients would become 0 in float16: the factor lifts them to where it has numbers.",
            "A gradient that overflows makes the scaler skip the step and halve the factor.",
        ),
        "half",
    ),
    Entry(
        "representation collapse",
        (
            "All samples look the same behind a layer: what tells them apart is gone.",
            "Whatever comes after can only learn one answer for all of them.",
            "Deep plain networks do it at the start, long steps and some losses do it in training.",
        ),
        "skips-forward",
        "skip-connections",
    ),
)
