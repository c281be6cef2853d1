"""Changes of a program's lines: what is found in them, in many manners of writing, and what comes out."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from gradscope.catalogue import remedies
from gradscope.errors import FileChanged, NoPatch
from gradscope.patches import Edit, Program
from gradscope.patches.activations import final, swap_activations
from gradscope.patches.edit import edited, unified_diff
from gradscope.patches.layers import add_skips, insert_norms, scale_branches
from gradscope.patches.loop import clip, scale_loss, train_mode, warm_up, zero
from gradscope.patches.losses import loss_value, lower_number, targets
from gradscope.patches.model_code import ModelCode, drawn_anew
from gradscope.patches.modules import fewer_groups, gate, lower_dropout, register
from gradscope.patches.optimizer import give_all_parameters, set_rate, set_weight_decay, swap_optimizer
from gradscope.patches.write import write
from gradscope.records import Cause, Finding, OptimizerInfo, Place, RunInfo, SourceFile
from gradscope.rules.handwritten import run as run_by_hand
from gradscope.signals import Signals
from tests.patching import ROOT, by_hand, places


def program(folder: Path, text: str, name: str = "train.py", **fields: object) -> Program:
    """A program of one file, with its places noted by hand."""
    file = folder / name
    file.write_text(text)
    return Program(replace(by_hand(file, RunInfo("run", "Net", 0.0)), **fields))  # type: ignore[arg-type]


def changes(code: Program, edits: list[Edit]) -> str:
    """What the diff takes away and puts in, without the rest."""
    lines = code.patch(edits).splitlines()
    return "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


HEAD = "import torch\nfrom torch import nn\n"
PLAIN = f"""{HEAD}net = nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x in range(3):
    loss = net(torch.ones(2, 4)).sum()
    loss.backward()
    opt.step()
"""


# edits and diffs


def test_edits_are_made_in_the_order_of_the_lines() -> None:
    """Insertions stand before the line that they name, also before a line that another edit replaces."""
    edits = [Edit("a", 2, 1, ("B",), ""), Edit("a", 2, 0, ("new",), ""), Edit("a", 4, 0, ("last",), "")]
    assert edited("a\nb\nc\n", edits) == "a\nnew\nB\nc\nlast\n"


def test_edits_of_one_line_are_refused() -> None:
    """Two changes of one line are no patch."""
    with pytest.raises(NoPatch, match=r"^two changes want line 1$"):
        edited("a = 1\n", [Edit("a", 1, 1, ("b = 1",), ""), Edit("a", 1, 1, ("c = 1",), "")])


def test_what_is_no_python_is_refused() -> None:
    """A patch whose result does not parse is none."""
    with pytest.raises(NoPatch, match=r"^the changed file would be no Python any more: "):
        edited("a = 1\n", [Edit("a", 1, 1, ("a = (",), "")])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_line_ends_are_kept(end: str, last: bool) -> None:
    """Lines that are new end as the others do; a last line without an end has none afterwards."""
    text = f"a = 1{end}b = 2{end if last else ''}"
    assert edited(text, [Edit("a", 3, 0, ("c = 3",), "")]) == f"a = 1{end}b = 2{end}c = 3{end if last else ''}"
    assert edited(text, [Edit("a", 2, 1, ("c = 3",), "")]) == f"a = 1{end}c = 3{end if last else ''}"


def test_a_diff_says_that_a_file_has_no_end_of_line() -> None:
    """As `diff` does."""
    assert unified_diff("a", "b", "f") == (
        "--- f\n+++ f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"
    )


def test_a_form_feed_ends_no_line(tmp_path: Path) -> None:
    """Lines are counted as Python counts them."""
    code = program(tmp_path, PLAIN.replace("net = ", "\x0c\nnet = "))
    assert changes(code, set_rate(code, "0.01")).endswith("+opt = torch.optim.SGD(net.parameters(), lr=0.01)")


def test_a_file_elsewhere_is_named_from_where_the_program_ran(tmp_path: Path) -> None:
    """The diff applies in the directory of the run."""
    (tmp_path / "src").mkdir()
    code = program(tmp_path / "src", PLAIN, directory=str(tmp_path))
    assert code.patch(zero(code)).startswith("--- src/train.py\n+++ src/train.py\n")
    assert code.location(zero(code)) == "src/train.py:7: insert before loss.backward()"


def test_no_source_is_said() -> None:
    """A run that kept no text of the program has no patch."""
    with pytest.raises(NoPatch, match=r"^the run kept no source: record it with `gradscope run`$"):
        clip(Program(RunInfo("run", "Net", 0.0)), "1")


def test_a_file_that_is_no_python_is_none_of_ours() -> None:
    """A notebook's cell with magic does not stop the rest."""
    info = RunInfo("run", "Net", 0.0, places=(Place("step", "/a.py", 1),), sources=(SourceFile("/a.py", "%time x\n"),))
    with pytest.raises(NoPatch, match=r"^no line of the program calls the optimizer's step\(\) itself$"):
        clip(Program(info), "1")


# clipping, in every manner of stepping

CLIP = [
    ("plain", PLAIN, "+    nn.utils.clip_grad_norm_(net.parameters(), max_norm=1)"),
    ("tabs", PLAIN.replace("    ", "\t"), "+\tnn.utils.clip_grad_norm_(net.parameters(), max_norm=1)"),
    (
        "one line",
        PLAIN.replace("    loss.backward()\n    opt.step()", "    loss.backward(); opt.step()"),
        "-    loss.backward(); opt.step()\n"
        "+    loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), max_norm=1); opt.step()",
    ),
    (
        "under an if",
        PLAIN.replace("    opt.step()", "    if x % 2: opt.step()"),
        "-    if x % 2: opt.step()\n+    if x % 2: nn.utils.clip_grad_norm_(net.parameters(), max_norm=1); opt.step()",
    ),
    (
        "a scaler",
        PLAIN.replace("opt.step()", "scaler.step(opt)"),
        "+    scaler.unscale_(opt)\n+    nn.utils.clip_grad_norm_(net.parameters(), max_norm=1)",
    ),
    (
        "only torch",
        PLAIN.replace("from torch import nn\n", "").replace("nn.Linear", "torch.nn.Linear"),
        "+    torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1)",
    ),
    (
        "names by themselves",
        "from torch.nn import Linear\nfrom torch.optim import SGD\nnet = Linear(4, 1)\nopt = SGD(net.parameters(), lr=0.1)\n"
        "opt.step()\n",
        "+import torch\n+torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1)",
    ),
    (
        "a closure",
        f"{HEAD}net = nn.Linear(4, 1)\nopt = torch.optim.LBFGS(net.parameters())\n\n\ndef closure():\n    opt.zero_grad()\n"
        "    loss = net(torch.ones(2, 4)).sum()\n    loss.backward()\n    return loss\n\n\nopt.step(closure)\n",
        "+    nn.utils.clip_grad_norm_(net.parameters(), max_norm=1)",
    ),
    (
        "functions with other names",
        f"{HEAD}\n\ndef train(model, optimizer):\n    model(torch.ones(2, 4)).sum().backward()\n    optimizer.step()\n\n\n"
        "def main():\n    net = nn.Linear(4, 1)\n    opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "    train(net, optimizer=opt)\n",
        "+    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1)",
    ),
    (
        "out of sight",
        f"{HEAD}\n\ndef train(stuff):\n    stuff.opt.step()\n\n\n"
        "def main():\n    net = nn.Linear(4, 1)\n    opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "    train((net, opt))\n",
        '+    nn.utils.clip_grad_norm_([p for group in stuff.opt.param_groups for p in group["params"]], max_norm=1)',
    ),
    (
        "an object",
        f"{HEAD}\n\nclass Trainer:\n    def __init__(self):\n        self.net = nn.Linear(4, 1)\n"
        "        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1)\n\n    @torch.enable_grad()\n    def fit(self):\n"
        "        self.opt.step()\n",
        "+        nn.utils.clip_grad_norm_(self.net.parameters(), max_norm=1)",
    ),
    (
        "accelerate",
        f"{HEAD}from accelerate import Accelerator\naccelerator = Accelerator()\n"
        + PLAIN.removeprefix(HEAD).replace("loss.backward()", "accelerator.backward(loss)"),
        "+    accelerator.clip_grad_norm_(net.parameters(), 1)",
    ),
    (
        "lightning",
        f"{HEAD}import lightning as L\n\n\nclass Net(L.LightningModule):\n    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n\n\nL.Trainer(max_epochs=1).fit(Net())\n",
        "-L.Trainer(max_epochs=1).fit(Net())\n+L.Trainer(max_epochs=1, gradient_clip_val=1).fit(Net())",
    ),
    (
        "transformers",
        "from transformers import Trainer, TrainingArguments\n"
        "args = TrainingArguments(\n    'out',\n    max_grad_norm=0.0,\n)\n",
        "-    max_grad_norm=0.0,\n+    max_grad_norm=1,",
    ),
]


TEXTS = {each[0]: each[1] for each in CLIP}


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*each[1:], id=each[0]) for each in CLIP])
def test_clipping_is_put_where_the_step_is(tmp_path: Path, text: str, expected: str) -> None:
    """Right before the step, in the names that hold there; where a library steps, as that library is told."""
    code = program(tmp_path, text)
    assert changes(code, clip(code, "1")) == expected


# the optimizer's line

RATES = [
    ("keyword", "SGD(net.parameters(), lr=0.1, momentum=0.9)", "SGD(net.parameters(), lr=0.01, momentum=0.9)"),
    ("by position", "SGD(net.parameters(), 0.1)", "SGD(net.parameters(), 0.01)"),
    ("absent", "Adam(net.parameters())", "Adam(net.parameters(), lr=0.01)"),
    ("an option", "Adam(net.parameters(), lr=args.lr)", "Adam(net.parameters(), lr=0.01)"),
    ("named", "Adam(params=net.parameters(), lr=1e-1)", "Adam(params=net.parameters(), lr=0.01)"),
    ("in options", "SGD(net.parameters(), **options)", 'SGD(net.parameters(), **{**options, "lr": 0.01})'),
    ("beyond ASCII", "Adam([{'params': net.parameters(), 'name': 'größe'}], lr=1)", None),
]


@pytest.mark.parametrize(("old", "new"), [pytest.param(*each[1:], id=each[0]) for each in RATES])
def test_the_rate_is_changed_where_it_stands(tmp_path: Path, old: str, new: str | None) -> None:
    """The argument of the optimizer's line gets the number, or is added; nothing else changes."""
    code = program(tmp_path, PLAIN.replace("SGD(net.parameters(), lr=0.1)", old))
    new = new or old.replace("lr=1", "lr=0.01")
    assert changes(code, set_rate(code, "0.01")) == f"-opt = torch.optim.{old}\n+opt = torch.optim.{new}"


def test_a_rate_over_several_lines(tmp_path: Path) -> None:
    """Only the line with the number changes."""
    code = program(tmp_path, PLAIN.replace("(net.parameters(), lr=0.1)", "(\n    net.parameters(),\n    lr=0.1,\n)"))
    assert changes(code, set_rate(code, "0.01")) == "-    lr=0.1,\n+    lr=0.01,"


def test_a_rate_that_has_a_name(tmp_path: Path) -> None:
    """A name that only the optimizer uses is changed where it gets its number; any other stays."""
    once = PLAIN.replace("net = ", "RATE = 0.1\nnet = ").replace("lr=0.1", "lr=RATE")
    code = program(tmp_path, once)
    assert changes(code, set_rate(code, "0.01")) == "-RATE = 0.1\n+RATE = 0.01"
    code = program(tmp_path, once + "print(RATE)\n")
    assert changes(code, set_rate(code, "0.01")).endswith("+opt = torch.optim.SGD(net.parameters(), lr=0.01)")


BEHIND = "def f():\n    opt = torch.optim.SGD(net.parameters(), lr={})\n    opt.step()\n\n\n"
TRAINER = """class T:
    def __init__(self, net{}):
        self.opt = torch.optim.SGD(net.parameters(), {})

    def fit(self):
        self.opt.step()


"""
WRITTEN = [
    ("an option", 'p.add_argument("--lr", type=float, default=0.5)\n' + BEHIND.format("args.lr"), "default=0.01)"),
    (
        "an option's other name",
        'p.add_argument("--step", dest="lr", default=0.5)\n' + BEHIND.format("args.lr"),
        "lt=0.01)",
    ),
    (
        "a dash",
        'p.add_argument("--learning-rate", default=0.5)\n' + BEHIND.format("args.learning_rate"),
        "default=0.01)",
    ),
    ("a key", 'CFG = {"opt": {"lr": 5e-1}}\n' + BEHIND.format('CFG["opt"]["lr"]'), 'CFG = {"opt": {"lr": 0.01}}'),
    ("a key that is asked for", 'cfg = {"lr": 1 / 2}\n' + BEHIND.format('float(cfg.get("lr"))'), 'cfg = {"lr": 0.01}'),
    ("a class of settings", "class C:\n    lr: float = 0.5\n\n\n" + BEHIND.format("C.lr"), "    lr: float = 0.01"),
    ("several at once", "lr, decay = 0.5, 0.0\nprint(lr)\n" + BEHIND.format("lr"), "lr, decay = 0.01, 0.0"),
    ("a name that hands on", "rate = 0.5\nlr = rate\nprint(lr, rate)\n" + BEHIND.format("lr"), "rate = 0.01"),
    ("a default", TRAINER.format(", lr=0.5", "lr=lr") + "T(net).fit()\n", "    def __init__(self, net, lr=0.01):"),
    ("handed over", TRAINER.format(", lr=0.5", "lr=lr") + "T(net, lr=0.5).fit()\n", "T(net, lr=0.01).fit()"),
    ("by position", TRAINER.format(", lr", "lr") + "T(net, 0.5).fit()\n", "T(net, 0.01).fit()"),
    ("starred", TRAINER.format(", cfg", "**cfg") + 'T(net, {"lr": 0.5}).fit()\n', 'T(net, {"lr": 0.01}).fit()'),
]


@pytest.mark.parametrize(("text", "new"), [pytest.param(*each[1:], id=each[0]) for each in WRITTEN])
def test_a_number_is_changed_where_it_is_written(tmp_path: Path, text: str, new: str) -> None:
    """The rate that the run had is found behind options, keys, defaults and names, and what reads it stays."""
    code = program(tmp_path, f"{HEAD}net = nn.Linear(4, 1)\n{text}", optimizers=(OptimizerInfo("SGD", {"lr": 0.5}),))
    said = changes(code, set_rate(code, "0.01")).splitlines()
    assert len(said) == 2
    assert said[1].endswith(new)


NOT_WRITTEN = [
    ("another number", 'p.add_argument("--lr", default=0.3)\n', ()),
    ("two of them", 'p.add_argument("--lr", default=0.5)\nlr = 0.5\n', ()),
    ("typed", 'p.add_argument("--lr", default=0.5)\n', ("train.py", "--lr=0.5")),
]


@pytest.mark.parametrize(("text", "command"), [pytest.param(*each[1:], id=each[0]) for each in NOT_WRITTEN])
def test_a_number_that_was_not_in_force_stays(tmp_path: Path, text: str, command: tuple[str, ...]) -> None:
    """A default that the command line overrides, another number, or one of two: the optimizer's line changes."""
    held = (OptimizerInfo("SGD", {"lr": 0.5}),)
    text = f"{HEAD}net = nn.Linear(4, 1)\n{text}{BEHIND.format('args.lr')}"
    code = program(tmp_path, text, optimizers=held, command=command)
    assert changes(code, set_rate(code, "0.01")).endswith("+    opt = torch.optim.SGD(net.parameters(), lr=0.01)")


REFUSED_RATES = [
    ("SGD([{'params': net.parameters(), 'lr': 1}], lr=0.1)", "line 4 gives parameter groups rates of their own"),
]


@pytest.mark.parametrize(("call", "why"), REFUSED_RATES)
def test_a_rate_that_cannot_be_found_is_left(tmp_path: Path, call: str, why: str) -> None:
    """Groups with rates of their own, and arguments out of sight, have no patch."""
    code = program(tmp_path, PLAIN.replace("SGD(net.parameters(), lr=0.1)", call))
    with pytest.raises(NoPatch) as refused:
        set_rate(code, "0.01")
    assert str(refused.value) == why


def test_a_schedule_that_sets_the_rate_is_respected(tmp_path: Path) -> None:
    """OneCycleLR overwrites what the optimizer is given."""
    code = program(tmp_path, PLAIN.replace("for x", "torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, 3)\nfor x"))
    with pytest.raises(NoPatch, match=r"^OneCycleLR in line 5 sets the learning rate by itself$"):
        set_rate(code, "0.01")


def test_another_optimizer_has_the_same_parameters(tmp_path: Path) -> None:
    """What it is given stays as it is written."""
    code = program(tmp_path, PLAIN.replace("net.parameters()", "[p for p in net.parameters() if p.requires_grad]"))
    new = "opt = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.001)"
    assert changes(code, swap_optimizer(code, "Adam", "lr=0.001")).endswith(f"+{new}")


def test_weight_decay_is_multiplied(tmp_path: Path) -> None:
    """The number that is written, times the factor."""
    code = program(tmp_path, PLAIN.replace("lr=0.1", "lr=0.1, weight_decay=0.5"))
    assert changes(code, set_weight_decay(code, 0.01)).endswith("lr=0.1, weight_decay=0.005)")
    code = program(tmp_path, PLAIN)
    with pytest.raises(NoPatch, match=r"^the weight decay is not written as a number where the optimizer is built$"):
        set_weight_decay(code, 0.01)


def test_all_parameters_or_a_group_of_the_rest(tmp_path: Path) -> None:
    """A part of the model becomes the whole; anything longer gets a group for what it lacks, before the loop."""
    part = program(tmp_path, PLAIN.replace("net.parameters()", "net.head.parameters()"))
    assert changes(part, give_all_parameters(part)).endswith("+opt = torch.optim.SGD(net.parameters(), lr=0.1)")
    both = program(tmp_path, PLAIN.replace("net.parameters()", "list(net.a.parameters()) + list(net.b.parameters())"))
    assert changes(both, give_all_parameters(both)) == (
        '+held = {id(p) for group in opt.param_groups for p in group["params"]}\n'
        '+opt.add_param_group({"params": [p for p in net.parameters() if id(p) not in held]})'
    )


# the loop


def test_warm_up_stands_behind_optimizer_and_step(tmp_path: Path) -> None:
    """Two lines; in an object the schedule is its attribute; a name that is taken is not taken again."""
    code = program(tmp_path, PLAIN)
    line = "+warmup = torch.optim.lr_scheduler.LinearLR(opt, start_factor=0.01, total_iters=100)"
    assert changes(code, warm_up(code, 100)) == f"{line}\n+    warmup.step()"
    code = program(tmp_path, PLAIN.replace("for x", "warmup = 1\nfor x"))
    assert "+    warmup_2.step()" in changes(code, warm_up(code, 100))
    code = program(tmp_path, TEXTS["an object"])
    assert changes(code, warm_up(code, 100)).endswith("+        self.warmup.step()")


def test_a_schedule_out_of_reach_is_refused(tmp_path: Path) -> None:
    """Where the optimizer is handed to a function that steps."""
    code = program(tmp_path, TEXTS["functions with other names"])
    with pytest.raises(NoPatch, match=r"^the optimizer is built in one function and steps in another"):
        warm_up(code, 100)


def test_gradients_are_zeroed_once_a_step(tmp_path: Path) -> None:
    """Before the backward pass; with accumulation behind the step, so that what was gathered counts."""
    code = program(tmp_path, PLAIN)
    assert code.location(zero(code)) == "train.py:7: insert before loss.backward()"
    code = program(tmp_path, PLAIN.replace("    opt.step()", "    if x % 2:\n        opt.step()"))
    assert changes(code, zero(code)) == "+        opt.zero_grad()"
    assert code.location(zero(code)) == "train.py:10: insert after opt.step()"


def test_training_mode_is_set_in_the_loop(tmp_path: Path) -> None:
    """At the beginning of the innermost loop that goes backward."""
    code = program(tmp_path, PLAIN)
    assert code.location(train_mode(code)) == "train.py:6: insert net.train() at the loop's beginning"


EPOCHS = PLAIN.replace("for x in range(3):", "for epoch in range(2):\n  for x in range(3):")
MODES = [
    ("", "  net.train()", "before the loop over the batches"),
    ("    if x == 2: net.eval()\n", "    net.train()", "at the loop's beginning"),
    ("    if x == 2: test(net)\n", "    net.train()", "at the loop's beginning"),
    ("    if x == 2: imported.test(net)\n", "    net.train()", "at the loop's beginning"),
    ("  imported.test(net)\n", "  net.train()", "before the loop over the batches"),
]


@pytest.mark.parametrize(("more", "line", "where"), MODES)
def test_training_mode_is_set_once_an_epoch_where_that_is_enough(
    tmp_path: Path, more: str, line: str, where: str
) -> None:
    """Before the loop over the batches, unless a test may be among them."""
    text = EPOCHS.replace("    opt.step()\n", f"    opt.step()\n{more}")
    code = program(tmp_path, text.replace("net = ", "def test(m):\n    m.eval()\n\n\nnet = "))
    assert changes(code, train_mode(code)) == f"+{line}"
    assert (code.location(train_mode(code)) or "").endswith(where)


def test_a_scaler_is_put_around_backward_and_step(tmp_path: Path) -> None:
    """Where autocast to float16 is there and the scaler is not; where it is not, nobody can say all the lines."""
    autocast = PLAIN.replace("    loss = ", "    with torch.autocast('cuda', torch.float16): loss = ")
    code = program(tmp_path, autocast, device="cuda:0")
    assert changes(code, scale_loss(code)) == (
        '+scaler = torch.amp.GradScaler("cuda")\n-    loss.backward()\n-    opt.step()\n'
        "+    scaler.scale(loss).backward()\n+    scaler.step(opt)\n+    scaler.update()"
    )
    code = program(tmp_path, PLAIN)
    with pytest.raises(NoPatch, match=r"^weights, inputs and autocast must change together"):
        scale_loss(code)


# the model


def test_weights_and_inputs_are_whole_together(tmp_path: Path) -> None:
    """Where all is halved by hand nothing is."""
    code = program(tmp_path, PLAIN.replace("1)\nopt", "1).half()\nopt").replace("(2, 4))", "(2, 4).half())"))
    assert changes(code, scale_loss(code)) == (
        "-net = nn.Linear(4, 1).half()\n+net = nn.Linear(4, 1)\n"
        "-    loss = net(torch.ones(2, 4).half()).sum()\n+    loss = net(torch.ones(2, 4)).sum()"
    )
    code = program(tmp_path, PLAIN.replace("1)\nopt", "1).half().to(torch.float16)\nopt"))
    with pytest.raises(NoPatch, match=r"^weights, inputs and autocast must change together"):
        scale_loss(code)


def test_the_model_is_followed_to_where_it_is_built(tmp_path: Path) -> None:
    """Through a function's parameter, to the statement of the caller."""
    code = program(tmp_path, TEXTS["functions with other names"])
    assert (code.model.name, code.model.build.line if code.model.build else 0) == ("net", 11)


def test_only_the_models_own_lines_are_changed(tmp_path: Path) -> None:
    """Another model in the same file keeps its activations."""
    other = "critic = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))\n"
    text = PLAIN.replace(
        "net = nn.Linear(4, 1)", f"{other}net = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))"
    )
    code = program(tmp_path, text)
    assert changes(code, swap_activations(code, "Sigmoid", "ReLU()", False)).startswith("-net = ")


NET = """
class Net(nn.Module):
    def __init__(self, act=nn.{kind}):
        super().__init__()
        self.a, self.act = nn.Linear(4, 4), act()
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 1)

    def forward(self, x):
        x = self.act(self.a(x))
        x = {call}
        return {output}


net = Net()
"""


def net(call: str = "torch.sigmoid(self.b(x))", output: str = "self.c(x)", kind: str = "Sigmoid") -> str:
    """A program of a class with three layers."""
    return PLAIN.replace("net = nn.Linear(4, 1)\n", NET.format(call=call, output=output, kind=kind))


@pytest.mark.parametrize(
    ("call", "new"),
    [
        ("torch.sigmoid(self.b(x))", "torch.relu(self.b(x))"),
        ("nn.functional.sigmoid(self.b(x))", "torch.relu(self.b(x))"),
        ("self.b(x).sigmoid()", "self.b(x).relu()"),
    ],
)
def test_activations_are_swapped_however_they_are_called(tmp_path: Path, call: str, new: str) -> None:
    """As a class in an argument, as a function and as a tensor's method; the output's own stays."""
    code = program(tmp_path, net(call, "torch.sigmoid(self.c(x))"))
    said = changes(code, swap_activations(code, "Sigmoid", "ReLU()", True))
    assert "+    def __init__(self, act=nn.ReLU):" in said
    assert f"+        x = {new}" in said
    assert "self.c" not in said


@pytest.mark.parametrize("call", ["torch.sigmoid(self.b(x))", "self.b(x).sigmoid()"])
def test_an_elu_is_no_method_of_tensors(tmp_path: Path, call: str) -> None:
    """It is called as a function wherever a sigmoid was called."""
    code = program(tmp_path, net(call))
    assert "+        x = nn.functional.elu(self.b(x))" in changes(
        code, swap_activations(code, "Sigmoid", "ELU()", False)
    )


@pytest.mark.parametrize("call", ["torch.exp(self.b(x))", "self.b(x).exp()"])
def test_an_exponential_is_swapped_where_it_is_asked_for(tmp_path: Path, call: str) -> None:
    """It is no activation of torch's, and is found by its operation."""
    code = program(tmp_path, net(call))
    said = changes(code, swap_activations(code, "Exp", "ReLU()", False))
    assert said.endswith("relu(self.b(x))") or said.endswith("self.b(x).relu()")


def test_a_leaky_relu_keeps_its_slope_as_a_function(tmp_path: Path) -> None:
    """0.01 goes along."""
    code = program(tmp_path, net("torch.relu(self.b(x))", kind="Tanh"))
    said = changes(code, swap_activations(code, "ReLU", "LeakyReLU(0.01)", False))
    assert said.endswith("+        x = nn.functional.leaky_relu(self.b(x), 0.01)")


OUTPUTS = [
    ("torch.softmax(self.c(x), dim=1)", "self.c(x)"),
    ("self.c(x).softmax(-1)", "self.c(x)"),
    ("nn.functional.softmax(self.c(x), 1).squeeze()", "self.c(x).squeeze()"),
]


@pytest.mark.parametrize(("output", "new"), OUTPUTS)
def test_the_outputs_activation_is_taken_off(tmp_path: Path, output: str, new: str) -> None:
    """As a function or a method, also under a change of shape."""
    code = program(tmp_path, net(output=output))
    last = final(code)
    assert last is not None
    assert last.kind == "Softmax"
    assert changes(code, last.taken_off()) == f"-        return {output}\n+        return {new}"


def test_an_output_without_activation_has_none(tmp_path: Path) -> None:
    """The last layer's output as it is."""
    assert final(program(tmp_path, net())) is None


def test_norms_go_between_layer_and_activation(tmp_path: Path) -> None:
    """Layers that forward calls inside of an activation are paired with a norm where they are built; the head is not."""
    code = program(tmp_path, net())
    said = changes(code, insert_norms(code))
    assert (
        said == "-        self.b = nn.Linear(4, 4)\n+        self.b = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))"
    )


def test_skips_and_scaled_branches(tmp_path: Path) -> None:
    """`x + scale * block(x)`, and a number before a branch that is there."""
    code = program(tmp_path, net())
    assert changes(code, add_skips(code, "0.5")).endswith("+        x = x + 0.5 * torch.sigmoid(self.b(x))")
    code = program(tmp_path, net("x + self.b(x)"))
    assert changes(code, scale_branches(code, "0.5")) == "-        x = x + self.b(x)\n+        x = x + 0.5 * self.b(x)"


def test_convolutions_get_a_skip_only_where_they_keep_the_size(tmp_path: Path) -> None:
    """A kernel of 3 with a padding of 1 does; without padding it does not."""
    sequence = "nn.Sequential(nn.Conv2d(8, 8, 3{}), nn.ReLU())"
    code = program(tmp_path, PLAIN.replace("nn.Linear(4, 1)", sequence.format(", padding=1")))
    assert "Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))" in changes(code, add_skips(code, "1"))
    code = program(tmp_path, PLAIN.replace("nn.Linear(4, 1)", sequence.format("")))
    with pytest.raises(NoPatch, match=r"^no block whose input and output are written with one width"):
        add_skips(code, "1")


def test_a_list_that_layers_are_appended_to_becomes_a_module_list(tmp_path: Path) -> None:
    """It begins as a ModuleList, which has `append` too; a list of anything else stays."""
    body = "    def __init__(self):\n        super().__init__()\n        self.{0} = []\n        self.{0}.append({1})\n"
    text = f"{HEAD}\n\nclass Net(nn.Module):\n{body}\n\nnet = Net()\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
    code = program(tmp_path, text.format("layers", "nn.Linear(4, 4)"))
    assert changes(code, register(code)) == "-        self.layers = []\n+        self.layers = nn.ModuleList()"
    code = program(tmp_path, text.format("losses", "0.5"))
    with pytest.raises(NoPatch, match=r"^no list of layers is kept as an attribute in the model's lines$"):
        register(code)


@pytest.mark.parametrize(
    "given", ['4, nonlinearity="relu", batch_first=True', '4, batch_first=True, nonlinearity="relu"']
)
def test_a_gru_takes_no_nonlinearity(tmp_path: Path, given: str) -> None:
    """What only an RNN has a use for goes."""
    code = program(tmp_path, PLAIN.replace("net = nn.Linear(4, 1)", f"net = nn.RNN(4, {given})"))
    assert "+net = nn.GRU(4, 4, batch_first=True)\n" in changes(code, gate(code, 3.0))


DROPPED = [
    ("a name", "RATE = 0.9\nnet = nn.Sequential(nn.Linear(4, 4), nn.Dropout(RATE))", "+RATE = 0.2"),
    (
        "a block's",
        "net = nn.TransformerEncoderLayer(4, 2, dropout=0.9)",
        "+net = nn.TransformerEncoderLayer(4, 2, dropout=0.2)",
    ),
    ("a name for a block", "width, drop = 4, 0.9\nnet = nn.LSTM(width, width, dropout=drop)", "+width, drop = 4, 0.2"),
]


@pytest.mark.parametrize(("text", "new"), [pytest.param(*each[1:], id=each[0]) for each in DROPPED])
def test_dropout_is_lowered_where_its_rate_is_written(tmp_path: Path, text: str, new: str) -> None:
    """In the layer's own line, in that of a block with dropout inside, or where a name gets the number."""
    code = program(tmp_path, PLAIN.replace("net = nn.Linear(4, 1)", text))
    assert changes(code, lower_dropout(code, 0.2)).splitlines()[1:] == [new]


def test_weights_are_drawn_before_the_model_is_moved_or_loaded(tmp_path: Path) -> None:
    """Right behind the statement that builds the model, so that what is loaded later stays."""
    code = program(tmp_path, PLAIN.replace("opt = ", "net.load_state_dict(saved)\nopt = "))
    edits = drawn_anew(code, "for module in model.modules():  # all\n    torch.nn.init.zeros_(module.weight)")
    assert code.location(edits).startswith("train.py:4: ")
    assert changes(code, edits) == "+for module in net.modules():\n+    nn.init.zeros_(module.weight)"


def test_model_and_loop_in_two_files(tmp_path: Path) -> None:
    """The diff names each file; the model's class is found where it is defined."""
    body = NET.format(kind="Sigmoid", call="x", output="x").removesuffix("net = Net()\n")
    (tmp_path / "models.py").write_text(HEAD + body)
    text = PLAIN.replace("net = nn.Linear(4, 1)", "from models import Net\nnet = Net()")
    main = program(tmp_path, text).info
    models = SourceFile(str(tmp_path / "models.py"), (tmp_path / "models.py").read_text())
    info = replace(main, sources=(*main.sources, models), places=(*main.places, *places(tmp_path / "models.py")))
    code = Program(info)
    assert [each.node.name for each in ModelCode(code).classes()] == ["Net"]  # type: ignore[attr-defined]
    assert code.patch(swap_activations(code, "Sigmoid", "ReLU()", False)).startswith("--- models.py\n+++ models.py\n")


# the loss


@pytest.mark.parametrize(
    ("backward", "expected"),
    [
        ("loss.backward()", "criterion(net(x), y)"),
        ("scaler.scale(loss).backward()", "criterion(net(x), y)"),
        ("criterion(net(x), y).backward()", "criterion(net(x), y)"),
    ],
)
def test_the_loss_is_found_behind_backward(tmp_path: Path, backward: str, expected: str) -> None:
    """By its name, through a scaler, or as it stands."""
    text = PLAIN.replace("loss = net(torch.ones(2, 4)).sum()", "loss = criterion(net(x), y)")
    code = program(tmp_path, text.replace("loss.backward()", backward))
    value = loss_value(code)
    assert value is not None
    assert value.text == expected
    assert targets(code).text == "y"


# what the demos are cured with

DRAWN = """for module in model.modules():
    torch.nn.init.ones_(module.weight)"""


def test_weights_are_drawn_after_what_else_is_done_to_them(tmp_path: Path) -> None:
    """A loop of the user's own over the model would undo it."""
    loop = "for p in net.parameters():\n    p.data *= 2\nopt = "
    code = program(tmp_path, PLAIN.replace("opt = ", loop, 1))
    assert [edit.first for edit in drawn_anew(code, DRAWN) if edit.lines] == [6]


def test_a_wrapper_of_the_model_stays_behind_the_drawing(tmp_path: Path) -> None:
    """DistributedDataParallel copies the weights to all processes: they are drawn before that."""
    wrapped = PLAIN.replace("opt = ", "ddp = nn.parallel.DistributedDataParallel(net)\nopt = ", 1)
    assert [edit.first for edit in drawn_anew(program(tmp_path, wrapped), DRAWN) if edit.lines] == [4]


def test_an_adam_keeps_all_but_its_eps(tmp_path: Path) -> None:
    """The smallest change: no other class, no other options."""
    code = program(tmp_path, PLAIN.replace("SGD(net.parameters(), lr=0.1)", "AdamW(net.parameters(), 0.1)"))
    new = "opt = torch.optim.AdamW(net.parameters(), 0.1, eps=1e-12)"
    assert changes(code, swap_optimizer(code, "Adam", "lr=0.001, eps=1e-12")).endswith(f"+{new}")


@pytest.mark.parametrize(
    "line",
    [
        "loss_of = FocalLoss(gamma={})",
        "def focal(x, y, gamma={}): ...",
        "def focal(x, y, *, gamma={}): ...",
        "GAMMA = {}",
    ],
)
def test_a_number_is_lowered_wherever_it_is_called_so(tmp_path: Path, line: str) -> None:
    """An argument, a default, or a variable."""
    code = program(tmp_path, PLAIN + line.format(50) + "\n")
    assert changes(code, lower_number(code, "gamma", 2)) == f"-{line.format(50)}\n+{line.format(2)}"


def test_two_numbers_of_one_name_are_left(tmp_path: Path) -> None:
    """Nobody can say which one is meant; one that is low enough does not count."""
    code = program(tmp_path, PLAIN + "f(gamma=50)\nf(gamma=60)\nf(gamma=1)\n")
    with pytest.raises(NoPatch, match=r"^2 numbers above 2 are called gamma: one is clear$"):
        lower_number(code, "gamma", 2)


def test_groups_become_fewer(tmp_path: Path) -> None:
    """Where they are written as a number that is low enough already, there is nothing to do."""
    code = program(tmp_path, PLAIN.replace("nn.Linear(4, 1)", "nn.Sequential(nn.GroupNorm(32, 32), nn.Linear(4, 1))"))
    assert "+net = nn.Sequential(nn.GroupNorm(4, 32), nn.Linear(4, 1))" in changes(code, fewer_groups(code, 4))
    with pytest.raises(
        NoPatch, match=r"^no GroupNorm of more than 32 groups is written in the lines that build the model$"
    ):
        fewer_groups(code, 32)


# writing


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file behind it is written."""
    (tmp_path / "real.py").write_text("a = 1\n")
    (tmp_path / "link.py").symlink_to("real.py")
    backup = write(tmp_path / "link.py", "a = 1\n", "a = 2\n")
    assert (tmp_path / "link.py").is_symlink()
    assert ((tmp_path / "real.py").read_text(), backup.name) == ("a = 2\n", "real.py.bak")


def test_an_encoding_that_is_declared_is_kept(tmp_path: Path) -> None:
    """latin-1 stays latin-1."""
    text = "# -*- coding: latin-1 -*-\na = 'ü'\n"
    (tmp_path / "a.py").write_bytes(text.encode("latin-1"))
    write(tmp_path / "a.py", text, text + "b = 'ä'\n")
    assert (tmp_path / "a.py").read_bytes() == (text + "b = 'ä'\n").encode("latin-1")


def test_nothing_is_written_over_a_changed_file(tmp_path: Path) -> None:
    """Other line ends are a change too."""
    (tmp_path / "a.py").write_bytes(b"a = 1\r\n")
    with pytest.raises(FileChanged, match=r"has changed since it ran, so the fix may not fit; nothing was written\."):
        write(tmp_path / "a.py", "a = 1\n", "a = 2\n")
    assert [each.name for each in tmp_path.iterdir()] == ["a.py"]


# whatever the program looks like

PROGRAMS = sorted({*(ROOT / "demos").glob("*.py"), *(ROOT / "tests").rglob("*.py")})[::5]
CHAIN = {"a": 1e-5, "s": 1e-4, "b": 1e-2, "t": 1e-1, "c": 1.0}
SICK = run_by_hand(CHAIN, kinds={"s": "Sigmoid", "t": "Sigmoid"}, loss=1.0)


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_no_program_breaks_the_diagnosis(file: Path) -> None:
    """For any text with any places a remedy has a patch that parses, or says why not."""
    if file.stat().st_size > 40_000:
        pytest.skip("a longer file says nothing more")
    signals = Signals(replace(SICK, info=by_hand(file, SICK.info)))
    made = []
    for remedy in remedies().values():
        causes = (Cause(next(iter(remedy.cures)), 0.9, ""),)
        finding = Finding("vanishing-gradient", "error", ("a",), 0, 7, "Sick", (), causes)
        try:
            made.append(remedy.patch(finding, signals))
        except NoPatch as reason:
            made.append(("", str(reason)))
    assert all(said for _, said in made)
    assert all(patch.startswith("--- ") for location, patch in made if location)
    assert ast.parse(file.read_bytes()) is not None
