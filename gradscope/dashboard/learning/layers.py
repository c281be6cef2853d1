"""The lessons on the optimizer, on normalisation, and on structure."""

from gradscope.dashboard.learning.topic import Topic

_NORM = "y = γ · (x − μ) / √(σ^{2} + ε) + β"

LAYERS = (
    Topic(
        "adam",
        "Adam's two moments",
        "Optimizer",
        "A mean of gradients over a mean of their squares: steps of one length, until eps is in the way.",
        (
            "Adam keeps two running means of each weight's gradient g: m of g itself, which says where to, and v "
            "of its "
            "square, which says how large gradients are there. The step is one over the root of the other.",
            "So every weight moves by about the [[learning rate]] η, whether its gradient is large or tiny. Both "
            "begin at "
            "0, which the division by 1 − β^{t} makes up for. ε keeps the division from failing where v is 0.",
        ),
        (
            "m ← β_{1} m + (1 − β_{1}) g,  v ← β_{2} v + (1 − β_{2}) g^{2}",
            "w ← w − η · m̂ / (√v̂ + ε),  m̂ = m / (1 − β_{1}^{t}),  v̂ = v / (1 − β_{2}^{t})",
        ),
        (
            (
                "adam",
                "A gradient of 0.5 in noise of 1, which stops to have a direction at step 100. m finds the mean "
                "within some "
                "10 steps and loses it as fast; √v remembers a thousand.",
            ),
            (
                "adam-step",
                "A constant gradient. Adam's step has one length as long as the gradient is larger than ε; below "
                "it is the "
                "gradient over ε, and fades as SGD's does.",
            ),
        ),
        (
            "√v below ε: losses in tiny units, or vanished gradients. Nothing moves.",
            "Vanished gradients above ε: their noise is scaled up to full steps.",
            "A lone large gradient after a quiet time: v is still small, the step is up to 7 times η.",
            "The first steps are full steps on one batch's word: that is what a [[warm-up]] is for.",
        ),
        (
            ("learning-rate-too-low", "the [[update ratio]], and the share of weights whose √v lies below ε"),
            ("gradient-spike", "a gradient that stands out of the run's own history"),
            ("learning-rate-too-high", "steps too long for the weights that they change"),
        ),
        (
            ("Write the loss in units in which it is about 1, or lower `eps=`.", "optimizer-swap"),
            ("Warm the learning rate up.", "warmup"),
            ("For sparse or spiking gradients lower β_{2} to 0.95.", ""),
        ),
        "adam",
        "The loss was multiplied by 10^{−12}. Every layer has its share of the gradient, and the weights have gone "
        "less "
        "than a millionth of their size in 150 steps.",
    ),
    Topic(
        "batch-norm",
        "BatchNorm",
        "Normalisation",
        "Each channel over all samples of the batch: as good as the batch is large.",
        (
            "Brings each channel to mean 0 and variance 1 over the samples of the batch and all positions, then "
            "scales and "
            "shifts it by γ and β, which are learned. In evaluation it takes running means from training instead.",
            "Samples see each other through μ and σ. A bias before it does nothing: the mean takes it away.",
        ),
        (_NORM, "μ, σ^{2}: of one channel, over samples and positions"),
        (("norm-batch", "Four samples with six channels. All samples' numbers of one channel go together."),),
        (
            "Small batches: 2 numbers, less their mean and over their deviation, are −1 and 1 whatever they were.",
            "Training and test disagree: running means that lag behind, or a model left in `train()`.",
            "In deep networks without skip connections gradients grow 1.21-fold with each BatchNorm and ReLU.",
        ),
        (("normalization-fault", "how many numbers are normalised together, and how many groups have no variance"),),
        (
            ("Take LayerNorm or GroupNorm, which do not look at other samples.", "layer-norm"),
            ("Average over more samples.", "larger-batch"),
            ("Call `model.eval()` before testing, `model.train()` after.", ""),
        ),
        "batch_norm",
        "Batches of two: each number is compared with one other. Only which of the two was larger is left.",
    ),
    Topic(
        "layer-norm",
        "LayerNorm",
        "Normalisation",
        "Each sample, or each token, by itself: where it stands in the block decides.",
        (
            "Brings the features of each sample, in a transformer of each token, to mean 0 and variance 1. It "
            "works for "
            "any batch, does the same in training and test, and makes the size of the weights before it irrelevant.",
            "Post-norm normalises after the sum, norm(h + f(h)): the gradient passes every normalisation, and is large "
            "in the last layers at the start. Pre-norm does so inside the branch, h + f(norm(h)): the sum stays free.",
        ),
        (_NORM, "μ, σ^{2}: of one sample (token), over its features"),
        (
            (
                "norm-layer",
                "One sample's numbers go together: over channels and positions, or, as transformers have it, over "
                "the channels at each position.",
            ),
        ),
        (
            "Deep post-norm transformers without a [[warm-up]]: the first steps are too long for the last blocks.",
            "Over a single feature it gives 0, and no gradient.",
        ),
        (
            ("normalization-fault", "the number of post-norm blocks, the learning rate at the start, what was learned"),
            ("learning-rate-too-high", "steps that are too long for the blocks"),
        ),
        (
            ("Warm the learning rate up over the first steps.", "warmup"),
            ("Move the normalisation into the branch: `norm_first=True`.", "layer-norm"),
        ),
        "layer_norm",
        "Twelve post-norm blocks at a full learning rate from step 0. The loss is that of a guess 120 steps later.",
    ),
    Topic(
        "instance-norm",
        "InstanceNorm",
        "Normalisation",
        "Each channel of each sample by itself: takes contrast and style away.",
        (
            "Brings each channel of each sample to mean 0 and variance 1 over its positions. It comes from style "
            "transfer: "
            "contrast is gone, only the pattern is left.",
            "It is GroupNorm with one channel a group. It needs positions: behind a global pooling there is one "
            "number a "
            "channel, which becomes 0.",
        ),
        (_NORM, "μ, σ^{2}: of one channel of one sample, over positions"),
        (
            (
                "norm-instance",
                "The three positions of one channel of one sample go together: few numbers, little to go by.",
            ),
        ),
        (
            "One position left: every number becomes β, no gradient passes. torch's InstanceNorm refuses that in "
            "training; "
            "GroupNorm with one channel a group does not.",
            "How bright or how large something is cannot be told behind it.",
        ),
        (
            ("normalization-fault", "how many numbers are normalised together, and groups without any variance"),
            ("representation-collapse", "samples that all look the same behind the layer"),
        ),
        (
            ("Normalise groups of channels together, or the whole sample.", "layer-norm"),
            ("Put it before the pooling.", ""),
        ),
        "group_norm",
        "GroupNorm with 32 groups for 32 channels is InstanceNorm by another name; it stands behind a global pooling.",
    ),
    Topic(
        "group-norm",
        "GroupNorm",
        "Normalisation",
        "Groups of channels of each sample: between LayerNorm and InstanceNorm.",
        (
            "Brings groups of channels of each sample to mean 0 and variance 1. One group is LayerNorm over "
            "channels and "
            "positions, as many groups as channels are InstanceNorm.",
            "It does not look at other samples: what BatchNorm is for large batches it is for small ones.",
        ),
        (_NORM, "μ, σ^{2}: of one group of channels of one sample, over them and positions"),
        (("norm-group", "Two groups of three channels: nine numbers of one sample go together."),),
        (
            "Too many groups: few numbers go together. One number less its mean is 0, two become −1 and 1.",
            "The number of channels must be a multiple of that of groups.",
        ),
        (
            ("normalization-fault", "how many numbers are normalised together, and groups without any variance"),
            ("vanishing-gradient", "the layers before, which get no gradient through it"),
        ),
        (("Take fewer groups: 16 numbers or more are to go together.", "layer-norm"),),
        "group_norm",
        "One channel a group behind a global pooling: 32 groups of one number. All of it becomes 0, for every image.",
    ),
    Topic(
        "dropout",
        "Dropout",
        "Structure",
        "Noise that keeps a network from leaning on single units: too much of it drowns the signal.",
        (
            "In training each unit is set to 0 with probability p, the others are divided by 1 − p, so that the "
            "mean stays. "
            "In evaluation nothing is done.",
            "It multiplies the signal by noise of variance p / (1 − p). What is left of signal to noise is (1 − p) "
            "/ p, and "
            "layers multiply.",
        ),
        (
            "h ← h · b / (1 − p),  b = 1 with probability 1 − p, else 0",
            "mean^{2} / variance of b / (1 − p) = (1 − p) / p",
        ),
        (
            (
                "dropout",
                "In decades. At p = 0.5 one layer leaves as much signal as noise; three layers of 0.95 leave 1.5 · "
                "10^{−4}.",
            ),
        ),
        (
            "Rates near 1 in several layers: the gradient is mostly noise, nothing is learned.",
            "Dropout that stays on in tests, for `model.eval()` was forgotten; or off in training.",
            "Few units and a high rate: samples lose everything at once.",
        ),
        (
            (
                "dropout-fault",
                "the rates, the signal to noise that they leave together, and the modes of training and tests",
            ),
        ),
        (
            ("Drop less: 0.1 to 0.3 between layers, 0.5 at most in wide ones.", "lower-dropout"),
            ("Call `model.eval()` for tests and `model.train()` after.", "lower-dropout"),
        ),
        "dropout",
        "Three layers of 0.95. The [[backward gain]] is healthy everywhere: this gradient has the right size and no "
        "direction.",
    ),
    Topic(
        "skip-connections",
        "Skip connections, both ways",
        "Structure",
        "A way around each layer: forward for the signal, back for the gradient.",
        (
            "A block adds its input to what it makes of it. Forward, the signal reaches every layer as it was; a "
            "block has "
            "only to add what is missing.",
            "Back, the sum hands its gradient to both of its terms unchanged. A block passes on 1 + f′ instead of "
            "f′: even "
            "if f′ is nearly 0 a gradient comes through, whatever the depth.",
        ),
        ("h_{l+1} = h_{l} + f(h_{l})", "∂L/∂h_{l} = ∂L/∂h_{l+1} · (1 + f′(h_{l}))"),
        (
            (
                "skip-boxes",
                "Two blocks. Green arcs carry the signal past a layer; the gradient takes them the other way.",
            ),
            (
                "skips",
                "Back: 40 tanh layers with random weights a little too small (× 0.8). Without skips each takes its "
                "share, and four decades are gone at the first layer.",
            ),
            (
                "skips-forward",
                "Forward: the same networks. Without skips the signal fades to a thirty-thousandth, and all "
                "samples look "
                "the same; with skips it grows five-fold, for variances add.",
            ),
        ),
        (
            "Missing in a deep network: losses multiply, see [[gain budget]].",
            "Something on the path itself: an activation or a normalisation behind the sum closes the way that was "
            "to be "
            "open.",
            "Sums grow: with He weights and no normalisation the variance doubles with each block.",
        ),
        (
            ("vanishing-gradient", "the longest chain of layers without a way around, and what each took"),
            ("representation-collapse", "from which layer on all samples look the same"),
            ("exploding-gradient", "sums that grow with depth"),
        ),
        (
            ("Add the input of each block to its output.", "skip-connection"),
            ("Scale the branches where sums grow, or start them at 0.", "residual-scaling"),
            ("Normalise inside the branch, not behind the sum.", "layer-norm"),
        ),
        "skip_connection",
        "Forty tanh layers in a row, weights × 0.8. Look at the map: the gradient pales from the output to the "
        "input, a "
        "little in each layer.",
    ),
)
