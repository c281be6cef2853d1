"""The glossary: words for what GradScope records, says and measures."""

from gradscope.dashboard.learning.entry import Entry

GRADSCOPE = (
    Entry(
        "verdict",
        (
            "The whole diagnosis in one word: Healthy, Watch, Unhealthy or Broken.",
            "Watch means that there are warnings, Unhealthy an error, Broken that the loss is no number any more.",
            "With too few steps to judge it says Not enough data yet, which is not Healthy.",
        ),
        "verdicts",
        also=("Healthy", "Watch", "Unhealthy", "Broken"),
    ),
    Entry(
        "severity",
        (
            "How much a finding matters: error, warning or note.",
            "An error keeps the training from what it is for; a warning costs you something; a note is worth knowing.",
            "Shape, word and colour say the same, so that no one of them is needed.",
        ),
        "severities",
        also=("error", "warning", "note"),
    ),
    Entry(
        "rule",
        (
            "One check for one sickness, with thresholds that it shows and sources that it names.",
            "It passes, fires, does not apply here, or needs more data; and it says which.",
            "Its thresholds were set on trainings known to be sick or healthy, and every finding shows them.",
        ),
        "ladder",
        also=("check",),
    ),
    Entry(
        "finding",
        (
            "What a rule found: what it is, in which layers, since which step, and how grave it is.",
            "The evidence below it holds each number beside its threshold and its healthy range.",
            "What spreads over many layers is one finding, not many.",
        ),
        "ladder",
    ),
    Entry(
        "cause",
        (
            "Why a finding came about, as far as the numbers tell.",
            "Causes are listed with a confidence, the most likely first.",
            "Several can be true at once: sigmoids contract, and depth multiplies it.",
        ),
        "ladder",
    ),
    Entry(
        "root cause",
        (
            "The finding that the others follow from.",
            "It is listed first, for curing it often cures the rest.",
            "The others say what they follow from: a wave of NaN follows from steps that were too long.",
        ),
        "follows",
        also=("follows from",),
    ),
    Entry(
        "remedy",
        (
            "A cure aimed at one finding: a small change of your own code, with its reason.",
            "As long as it was not tried it is called an estimate.",
            "A trial says whether it helps this training.",
        ),
        "ladder",
        "skip-cure",
        ("fix", "suggestion"),
    ),
    Entry(
        "trial",
        (
            "Your training again in short runs: as it is, with a cure, and with a random change.",
            "Each is run with several seeds, and their losses are compared.",
            "Only then is a suggestion called measured.",
        ),
        "trial",
    ),
    Entry(
        "control",
        (
            "What a cure is compared with in a trial.",
            "One control changes nothing; the other makes as many changes, drawn at random.",
            "A cure that does no better than a random change has not helped, however good its curve looks.",
        ),
        "dots",
    ),
    Entry(
        "random change",
        (
            "A change without a reason, tried beside the cure.",
            "Any change makes a training come out differently; some come out better by luck.",
            "A cure has to beat that luck.",
        ),
        "dots",
    ),
    Entry(
        "p value",
        (
            "How often chance alone would give a difference as large as the one that was measured.",
            "0.01 means once in a hundred; with few seeds it cannot become very small.",
            "It does not say how large the effect is: look at the losses for that.",
        ),
        "dots",
    ),
    Entry(
        "seed",
        (
            "The number that chance begins from: the first weights, the order of the batches, dropout.",
            "The same seed gives the same training, another one a training that differs by chance alone.",
            "One run proves little; five that agree prove more.",
        ),
        "dots",
        also=("seeds",),
    ),
    Entry(
        "measured",
        (
            "A suggestion's effect that a trial of this very training found.",
            "Without a trial it is an estimate: it helped elsewhere, or follows from theory.",
            "Measured can also mean that it did not help, and then it says so.",
        ),
        "dots",
        also=("estimate",),
    ),
    Entry(
        "recorded step",
        (
            "A step of which every layer's numbers were taken.",
            "Of the steps between only loss, gradient norm and learning rate are known.",
            "They are close together at the start and further apart later, so that watching costs little.",
        ),
        "recorded",
    ),
    Entry(
        "overhead",
        (
            "How much longer training takes because it is watched, measured in the run itself.",
            "Short runs show a high one, for the first steps are recorded densely.",
            "Recording spaces its steps so that it falls to the share that was asked for.",
        ),
        "overhead",
    ),
    Entry(
        "onset",
        (
            "The step at which a finding begins.",
            "What changed just before it is the first suspect: a learning rate, a batch, a loss scale.",
            "F1, F2 and so on mark onsets above every chart over time.",
        ),
        "recorded",
    ),
    Entry(
        "layer",
        (
            "A module of the network, by the name it has in your code, such as blocks.3.linear.",
            "Numbers are taken at its output, in its parameters, and at the loss gradient of both.",
            "A bare number is its place in an nn.Sequential.",
        ),
        "sites",
        also=("site",),
    ),
    Entry(
        "siblings",
        (
            "Layers of the same kind at other depths of the same network.",
            "A number that is odd for a layer may be usual among its siblings, or the other way round.",
            "The percentile says how many of them lie below it.",
        ),
        "sites",
    ),
)
