"""The zoo: sick and healthy trainings that GradScope is developed against, and the proof that it tells them apart.

`make zoo` trains every program in several seeds, judges what was recorded at three moments, and prints how many sick ones
were found, explained and located, how many healthy ones were left in peace, and what five published rule sets say of the
same trainings.

data.py         data sets that need no internet, as tasks: inputs, targets, and how far from right an output is
nets.py         networks, most of them written as one line of text
program.py      what a program is, and what may be said of it
blames.py       what may be said, by the kind of sickness
loops.py        ways to train, right and wrong
basics_*.py     the systems that every textbook has, each sick and well
autotrainer.py  published networks that do not train
deepchecker.py  published programs with one line changed
healthy_*.py    trainings that look sick and are not
animals.py      all programs by id
train.py        trains one program in one seed and keeps what was recorded
trace.py        what published tools look at, taken during the same training
judge.py        what is said of a kept training, and whether it is right
many.py         trains and judges in worker processes
tally.py        counts, intervals, tables
benchmark.py    how often the cause that is named first was right; writes assets/benchmark.json
calibrate.py    where each threshold lies among what it is compared with; writes CALIBRATION.md
peers/          published rule sets
"""
