"""The lessons on losses."""

from gradscope.dashboard.learning.topic import Topic

LOSSES = (
    Topic(
        "mse",
        "Mean squared error",
        "Losses",
        "For numbers: its gradient grows with the error, and so with the unit of the targets.",
        (
            "The loss for regression: the mean of the squared distances between outputs y and targets t.",
            "Its gradient is the distance itself. Near the target it fades, which lets training settle; far away "
            "it has "
            "no bound. An error ten times larger gives a gradient ten times and a loss a hundred times larger.",
        ),
        ("L = 1/n · Σ (y − t)^{2}", "∂L/∂y = 2/n · (y − t)"),
        (
            (
                "squared-error",
                "One sample. The squared error's gradient is a line through 0 without an end. Huber's loss does "
                "likewise "
                "near 0 and stops at 1; the absolute error's has one size everywhere.",
            ),
        ),
        (
            "Targets in large units (prices, degrees, counts): the first gradients are as large as the targets, the "
            "first step throws the weights away, and the loss ends as Inf or NaN.",
            "One outlier outweighs a batch: its error counts squared.",
            "Shapes that broadcast: outputs `[N, 1]` and targets `[N]` give N × N differences, and the network learns "
            "the mean.",
        ),
        (
            ("unscaled-data", "the size of the targets beside that of the first outputs"),
            ("exploding-gradient", "gradients that grow, and steps that throw the weights away"),
            ("output-loss-mismatch", "shapes that were broadcast between outputs and targets"),
            ("non-finite", "the step at which the loss stopped being a number"),
        ),
        (
            (
                "Standardise the targets: subtract their mean, divide by their deviation, undo it after.",
                "standardize-targets",
            ),
            ("Clip the gradient norm, where outliers are rare.", "gradient-clipping"),
            ("Take `nn.HuberLoss`, where they are not.", "change-loss"),
        ),
        "squared_error",
        "Targets between 25 and 346 meet outputs near 0. Look at the loss: 3 · 10^{10} at step 2, infinite at step "
        "5, and no "
        "number after that.",
    ),
    Topic(
        "binary-cross-entropy",
        "Binary cross-entropy",
        "Losses",
        "For yes or no: made for a sigmoid, whose flat ends it takes away, once.",
        (
            "The loss for two classes: minus the logarithm of the probability p = σ(z) that the network gives to "
            "what is "
            "true. z is the logit, σ the sigmoid.",
            "The sigmoid is flat where it is sure; the logarithm is steep exactly there. Together they leave a "
            "gradient "
            "of p − t: as large as the answer is wrong, and never more than 1.",
        ),
        ("L = −t · ln p − (1 − t) · ln(1 − p),  p = σ(z) = 1 / (1 + e^{−z})", "∂L/∂z = p − t"),
        (
            (
                "binary-cross-entropy",
                "The answer should be yes (t = 1). On the left the network is sure of no: there the cross-entropy "
                "on the "
                "logit pulls with full strength, the two others hardly pull.",
            ),
        ),
        (
            "`nn.Sigmoid` in the model and `BCEWithLogitsLoss` behind it: the sigmoid is taken twice. What the "
            "loss takes "
            "for a logit lies between 0 and 1, so p stays between 0.5 and 0.73, and the loss cannot come near 0.",
            "A squared error on σ(z): where the answer is most wrong the gradient is nearly 0.",
            "`BCELoss` on an output without a sigmoid fails on the first number outside of 0 … 1.",
        ),
        (
            ("output-loss-mismatch", "which activation the outputs went through, and which one the loss takes itself"),
            ("loss-stalled", "a loss that stays at that of a constant guess"),
            ("saturated-activation", "[[saturation|hidden sigmoids]] that are driven to their flat ends"),
        ),
        (
            (
                "Give the logit to `nn.BCEWithLogitsLoss`, and take the sigmoid off the model.",
                "change-output-activation",
            ),
            ("Take the sigmoid when you ask for a probability, after training.", ""),
        ),
        "binary_cross_entropy",
        "The model ends in a sigmoid and the loss takes another. All layers look healthy, and still the loss stops far "
        "from 0: this sickness is not in the gradients' size.",
    ),
    Topic(
        "cross-entropy",
        "Cross-entropy",
        "Losses",
        "For one of K classes: begins at ln K, ends at 0, unless softmax is taken twice.",
        (
            "The loss for K classes: minus the logarithm of the probability that softmax gives to the right class c.",
            "Its gradient for the logits is what the network said less what is true. It sums to 0 over the "
            "classes: what "
            "one logit gains the others lose. A network that knows nothing begins at ln K, with 10 classes at 2.30.",
        ),
        ("p_{k} = e^{z_k} / Σ_{j} e^{z_j},  L = −ln p_{c}", "∂L/∂z_{k} = p_{k} − 1 for k = c, p_{k} else"),
        (
            (
                "cross-entropy",
                "Ten classes. The further the right logit leads, the nearer the cross-entropy comes to 0. With a "
                "softmax in "
                "the model before it the lead is 1 at most, and the loss stops at ln(e + 9) − 1 = 1.46.",
            ),
        ),
        (
            "`nn.Softmax` in the model and `CrossEntropyLoss` behind it, which takes its own: the loss has a floor of "
            "1.46 with 10 classes, and the gradient is that of nearly equal logits.",
            "`CrossEntropyLoss` on log-probabilities does no harm; `NLLLoss` on logits or on probabilities does.",
            "A loss below ln K at step 0 says that the labels leak; one far above says that the last layer starts too "
            "large.",
        ),
        (
            ("output-loss-mismatch", "each softmax on the way from the outputs to the loss, and along which dimension"),
            ("loss-stalled", "a loss that stays at that of the best constant guess"),
        ),
        (
            ("Take the softmax off the model.", "change-output-activation"),
            ("With `nn.LogSoftmax` at the end take `nn.NLLLoss`.", "change-loss"),
        ),
        "cross_entropy",
        "The model ends in a softmax. The loss of 10 classes begins at 2.30, as it should, and is not far from "
        "there 150 "
        "steps later.",
    ),
    Topic(
        "focal",
        "Focal loss",
        "Losses",
        "A cross-entropy that looks away from easy samples: too strongly focused, from all of them.",
        (
            "A cross-entropy whose samples are weighted by (1 − p)^{γ}, where p is the probability of the right class. "
            "It was made for detectors, where a thousand easy background boxes drown one object.",
            "γ = 0 is the cross-entropy. With the usual γ = 2 a sample with p = 0.9 weighs a hundredth.",
        ),
        ("L = −(1 − p)^{γ} · ln p", "∂L/∂z = (1 − p)^{γ} · (γ p ln p + p − 1), for two classes"),
        (
            (
                "focal",
                "The gradient that a sample gives. The larger γ, the earlier it lets go. At γ = 100 a sample with "
                "p = 0.1, "
                "the first guess among 10 classes, gives nothing.",
            ),
        ),
        (
            "γ so large that even a first guess counts as easy: the loss is tiny, the gradient too, and nothing is "
            "learned.",
            "A small loss that looks like success: divide it by ln K before you believe it.",
            "Wrong labels are the hardest samples: focal loss looks at nothing else in the end.",
        ),
        (
            ("output-loss-mismatch", "a loss far below ln K while no class can be likely yet"),
            ("learning-rate-too-low", "steps that hardly move the weights"),
        ),
        (
            ("Take γ between 1 and 3, and the cross-entropy where classes are balanced.", "change-loss"),
            ("Weigh rare classes instead, with the loss's `weight=`.", "change-loss"),
        ),
        "focal_loss",
        "γ is 100. The loss is ten thousand times smaller than that of a guess from the first step on, and the "
        "[[gradient norm]] with it.",
    ),
    Topic(
        "triplet",
        "Triplet loss",
        "Losses",
        "For embeddings: nearer to one's own kind than to others, by a margin; all the same is a way out.",
        (
            "The loss for embeddings: an anchor is to lie nearer to a positive, of its own class, than to a "
            "negative, of "
            "another, by at least a margin m.",
            "Where that holds it is 0 and gives no gradient; so hard triplets are searched. If all embeddings "
            "become one "
            "point every distance is 0, and the loss is the margin exactly.",
        ),
        ("L = max(0, d(a, p) − d(a, n) + m)", "∂L/∂d(a, p) = 1, ∂L/∂d(a, n) = −1 where L > 0, else 0"),
        (
            (
                "triplet",
                "Margin 0.5. Left of −0.5 the triplet is learned and silent. At a gap of 0 (all embeddings the "
                "same) the "
                "loss is 0.5, and the gradient still 1: but the distance has no direction there to follow.",
            ),
        ),
        (
            "Collapse: the hardest triplets with long steps push everything into one point; the loss stays at the "
            "margin.",
            "Only easy triplets: the loss is 0 after a few steps and nothing more is learned.",
            "d without a small constant below its root: its gradient at 0 is NaN.",
        ),
        (
            ("exploding-gradient", "a step that threw the weights away"),
            ("learning-rate-too-high", "a loss that leapt, and never came back"),
            ("representation-collapse", "outputs that hardly differ between samples"),
            ("non-finite", "the NaN of a root at 0"),
        ),
        (
            ("Lower the learning rate; begin with semi-hard triplets, the hardest come later.", "lower-learning-rate"),
            ("Clip the gradient norm.", "gradient-clipping"),
            ("Normalise the embeddings to length 1: then distances have a scale.", ""),
        ),
        "triplet_loss",
        "Adam at a learning rate of 0.1. The first step moves the weights by more than their own size; the loss "
        "ends at "
        "0.5, the margin: all embeddings are one.",
    ),
    Topic(
        "similarity",
        "Similarity loss",
        "Losses",
        "A cross-entropy over pairs: its temperature divides every gradient.",
        (
            "The loss of contrastive learning (InfoNCE): among all pairs of a batch the one that belongs together "
            "is to be "
            "the most alike. It is a cross-entropy whose logits are similarities s, from −1 to 1, over a "
            "temperature τ.",
            "The temperature spreads the similarities out so that softmax can tell them apart; and it divides the "
            "gradient: at τ = 0.001 a wrong pair pulls with a strength of 1,000.",
        ),
        ("L = −ln( e^{s⁺/τ} / Σ_{j} e^{s_j/τ} )", "∂L/∂s^{+} = −(1 − p^{+}) / τ"),
        (
            (
                "similarity",
                "The gradient of the right pair among 127 others, in decades. Low temperatures give a wall: "
                "enormous on the "
                "left, nothing on the right.",
            ),
        ),
        (
            "τ too low: the first gradients throw the weights away, and later all but a few pairs are silent.",
            "τ too high: all pairs pull alike, and the embeddings stay close together.",
            "Similarities of vectors that were not normalised have no bound: the temperature means nothing then.",
        ),
        (
            ("exploding-gradient", "gradients that grew a thousandfold, and steps as long as the weights"),
            ("learning-rate-too-high", "a loss that leaps"),
            ("representation-collapse", "embeddings that are all the same"),
        ),
        (
            ("Begin with τ between 0.05 and 0.2, or learn it, bounded below.", "change-loss"),
            ("Normalise the embeddings: `nn.functional.normalize(outputs, dim=-1)`.", ""),
            ("Lower the learning rate, clip, warm up.", "lower-learning-rate"),
        ),
        "similarity_loss",
        "τ is 0.001. The first gradient has a norm of 402. After that one step the norm is below 0.01 and the loss "
        "does not "
        "move: the network was thrown to where nothing is learned any more.",
    ),
)
