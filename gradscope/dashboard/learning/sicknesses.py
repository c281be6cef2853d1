"""The lessons on vanishing and exploding gradients and on the four cures."""

from gradscope.dashboard.learning.topic import Topic

SICKNESSES = (
    Topic(
        "vanishing",
        "Vanishing gradients",
        "Sicknesses",
        "Each layer passes on a part of the gradient; many parts multiplied are nothing.",
        (
            "On its way back the gradient is multiplied by each layer's weights and by the slope of each "
            "activation. If "
            "these are below 1 on the whole, the product falls with every layer: 0.25 over 20 layers is 10^{−12}.",
            "A sigmoid's slope is 0.25 at its best, at 0, and nothing where it is sure; tanh's is 1 at 0 only. The "
            "[[saturation|flat ends]] and the depth work together.",
        ),
        ("∂L/∂h_{0} = ∂L/∂h_{n} · Π_{l} W_{l} · f′(z_{l})", "σ′ = σ (1 − σ) ≤ 0.25,  tanh′ = 1 − tanh^{2} ≤ 1"),
        (
            (
                "derivatives",
                "What each activation lets through. A sigmoid is at 0.25 at best; beyond ±5 it lets 0.007 through.",
            ),
            (
                "chains",
                "Twenty layers, 64 units wide, computed. Read it from the right, where the gradient starts: the "
                "sigmoids "
                "lose 13 [[decade|decades]] on the way to the input.",
            ),
        ),
        (
            "Sigmoid or tanh in hidden layers of deep networks, and inputs large enough to saturate them.",
            "Weights that start too small: torch's default for `nn.Linear` passes on 0.41 of the gradient with "
            "each ReLU.",
            "Long chains in time: a recurrent network multiplies by the same matrix at each step.",
            "Adam hides it: tiny gradients are scaled up, noise and all.",
        ),
        (
            (
                "vanishing-gradient",
                "the [[backward gain]] of each layer, and the [[gain budget]]: who took how many decades",
            ),
            ("saturated-activation", "hidden units that are driven to where their slope is nearly 0"),
            ("poor-initialization", "the [[forward gain]] of each layer before anything was learned"),
            ("vanishing-through-time", "the gradient at each time step of a recurrent layer"),
        ),
        (
            ("Swap the hidden activations for ones that do not contract.", "activation-swap"),
            ("Initialise for the activation that follows.", "initialization"),
            ("Add skip connections.", "skip-connection"),
            ("Normalise in each layer.", "layer-norm"),
            ("In recurrent networks take gates.", "gated-recurrence"),
        ),
        "vanishing_gradient",
        "Twelve sigmoid layers. The first one gets 10^{−10} of the gradient, the loss stays at that of a guess, "
        "2.30. Look "
        "at the [[gain budget]] in the finding: the sigmoids took most of it.",
    ),
    Topic(
        "exploding",
        "Exploding gradients",
        "Sicknesses",
        "Factors over 1 multiplied, or steps too long: weights are thrown away.",
        (
            "The same product as with vanishing, with factors over 1: weights twice too large double the gradient with "
            "each layer, a million-fold over 20.",
            "Other ways lead to the same end. A [[mse|squared error]] on large targets begins with a large gradient. "
            "Gradients that nobody zeroes add up. And a learning rate over 2 / curvature makes each step land farther "
            "from the minimum than the one before.",
        ),
        (
            "∂L/∂h_{0} = ∂L/∂h_{n} · Π_{l} W_{l} · f′(z_{l})",
            "distance_{t} = distance_{0} · |1 − η λ|^{t},  λ: the curvature",
        ),
        (
            (
                "scales",
                "Twenty ReLU layers, computed. Twice He's weights: 2^{20} = 10^{6} at the input; half of them: "
                "10^{−6}.",
            ),
            (
                "learning-rates",
                "Gradient descent on ½ λ w^{2}. Over ηλ = 2 every step is too long; at 1.9 it rattles from side to "
                "side and settles slowly.",
            ),
            (
                "accumulation",
                "`zero_grad()` was forgotten. A steady gradient grows with each step, pure noise with the root of "
                "their number.",
            ),
        ),
        (
            "Weights that start too large, or grow in training.",
            "A learning rate that is too high for where the weights are now.",
            "Targets in large units under a squared error.",
            "`zero_grad()` forgotten, or gradients of many batches summed and not divided.",
            "The end: Inf in the loss, then NaN in every weight.",
        ),
        (
            (
                "exploding-gradient",
                "the [[backward gain]], growth of the [[gradient norm]], the [[update ratio]] of one step",
            ),
            ("gradient-spike", "gradients that leap out of the run's own history"),
            ("accumulating-gradient", "gradients that still hold those of earlier steps"),
            ("learning-rate-too-high", "a loss that leaps or never settles"),
            ("non-finite", "where Inf or NaN came up first, and what only inherited it"),
        ),
        (
            ("Initialise for the activation that follows.", "initialization"),
            ("Lower the learning rate.", "lower-learning-rate"),
            ("Clip the gradient norm.", "gradient-clipping"),
            ("Zero the gradients before each backward pass.", "zero-grad"),
            ("Standardise the targets.", "standardize-targets"),
        ),
        "exploding_gradient",
        "Twenty ReLU layers, weights twice He's. The first layer gets a million times the output's gradient, and the "
        "first loss is 8 million where a guess gives 2.30.",
    ),
    Topic(
        "clipping",
        "Cure: gradient clipping",
        "The four cures",
        "Bounds the length of a step and keeps its direction: against rare large gradients.",
        (
            "If the norm of all gradients together is above a bound c, all of them are divided so that it is c. The "
            "direction stays; single outliers cannot throw the weights away any more.",
            "It treats the symptom. If every step is clipped you have a smaller learning rate and a large gradient "
            "whose "
            "direction may be noise.",
        ),
        ("g ← g · min(1, c / ‖g‖)",),
        (("clipping", "Below the bound nothing changes. Above it the norm is the bound, however large it was."),),
        (
            "Clipping each entry (`clip_grad_value_`) changes the direction.",
            "Under mixed precision: unscale first, else the scaled gradients are clipped.",
            "A bound far below the usual norm clips every step.",
            "Called before `backward()` or after `step()` it does nothing.",
        ),
        (
            ("exploding-gradient", "whether gradients are bounded, and how large they became"),
            ("gradient-spike", "rare gradients that stand out: what clipping is for"),
        ),
        (
            (
                "`nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)` between `backward()` and `step()`.",
                "gradient-clipping",
            ),
        ),
        "similarity_loss",
        "A gradient norm of 402 in the first step, and nothing that bounds it: clipping is among what is suggested "
        "here.",
    ),
    Topic(
        "initialisation",
        "Cure: initialisation",
        "The four cures",
        "Weights of the size that keeps signal and gradient as they are, for the activation that follows.",
        (
            "With weights of variance s^{2} / n a layer of n units multiplies the signal by s and by what its "
            "activation "
            "leaves. ReLU leaves half of the variance, so s^{2} = 2 (He); tanh near 0 leaves it, so s^{2} = 1 "
            "(Xavier).",
            "Depth is free then: 20 layers pass on what one does. It holds at the start; training can move weights "
            "away.",
        ),
        ("He, for ReLU: σ_{w} = √(2 / n_{in})", "Xavier, for tanh: σ_{w} = √(2 / (n_{in} + n_{out}))"),
        (("scales", "He's weights in the middle. A factor of 2 either way costs a million over 20 layers."),),
        (
            "torch's default for `nn.Linear` has variance 1 / (3 n): with ReLU 0.41 of the gradient passes each layer.",
            "All weights alike: all units of a layer learn the same.",
            "The last layer too large: the first loss is far above ln K.",
        ),
        (
            ("poor-initialization", "the [[forward gain]] of each layer at step 0, and weights that are all alike"),
            ("vanishing-gradient", "the share of the weights in the [[gain budget]]"),
            ("exploding-gradient", "the same, upwards"),
        ),
        (
            (
                '`nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")` for each layer with a ReLU behind it.',
                "initialization",
            ),
        ),
        "exploding_gradient",
        "He's weights, then doubled. In the finding the gain budget says it: 20 linear layers gave + 9 decades, "
        "their ReLUs "
        "took 3.",
    ),
    Topic(
        "skip-cure",
        "Cure: skip connections",
        "The four cures",
        "A free way for the gradient around what takes it: against depth itself.",
        (
            "Where many layers follow one another no activation and no initialization is exact enough: what is "
            "lost in each "
            "multiplies. A sum around each block lets the gradient pass as it is.",
            "It is the only of the four that changes what the network can compute: a block becomes a correction.",
        ),
        ("h ← h + f(h)", "one block: f′ → 1 + f′"),
        (("skips", "Forty tanh layers, the same weights. The lower line has no way around them."),),
        (
            "Shapes must fit: where the width changes the way around needs a projection.",
            "Without a normalisation in the branch sums grow with depth.",
            "It does not help a network of three layers.",
        ),
        (
            ("vanishing-gradient", "the longest chain without a way around"),
            ("representation-collapse", "from which layer on samples look the same"),
        ),
        (
            ("Add the input of each block to its output.", "skip-connection"),
            ("Start the branches at 0, or scale them down.", "residual-scaling"),
        ),
        "skip_connection",
        "Forty layers without a way around. `gradscope demo skip_connection` trains it, adds the skips, and trains "
        "it again.",
    ),
    Topic(
        "normalisation-cure",
        "Cure: normalisation",
        "The four cures",
        "Mean 0 and variance 1 in every layer: the size of weights does not matter any more.",
        (
            "A normalisation between weights and activation divides by what the weights were too large or too "
            "small by, in "
            "both directions. Signals stay of size 1 through training, not only at the start.",
            "Which one: LayerNorm in transformers and plain networks, BatchNorm in convolutional ones with large "
            "batches, "
            "GroupNorm with small ones.",
        ),
        ("h ← f( (W h − μ) / σ )",),
        (
            (
                "normalised",
                "The outer lines are weights of twice and half He's size. With LayerNorm in each layer both lie on "
                "one line, near 1.",
            ),
        ),
        (
            "Few numbers that go together, see [[BatchNorm]] and [[GroupNorm]].",
            "Behind the sum of a skip connection it closes the free way: put it inside the branch.",
            "Weights before it grow without a penalty, and their effective learning rate falls.",
        ),
        (
            ("normalization-fault", "how many numbers go together, their variance, and where it stands in the block"),
            ("exploding-gradient", "layers that still stretch the gradient"),
        ),
        (
            ("Normalise each sample by itself.", "layer-norm"),
            ("Insert BatchNorm before the activations of a convolutional network.", "batch-norm"),
        ),
        "healthy",
        "Six residual blocks, each with LayerNorm first: two of the cures together. Every layer lies in the "
        "[[healthy band]], and there is nothing to say.",
    ),
)
