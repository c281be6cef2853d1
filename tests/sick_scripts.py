"""Sick training scripts in the manners of people: what each is sick with, and which remedy's patch cures it."""

from __future__ import annotations

SCRIPTS: dict[str, str] = {}

SCRIPTS["clip"] = """\
import torch
import torch.nn as nn

torch.manual_seed(0)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(4, 32, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(32, 1)
        nn.init.orthogonal_(self.cell.weight_hh_l0, gain=1.6)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


def train_epoch(predictor, batches, optim):
    for text, mark in batches:
        optim.zero_grad()
        error = nn.functional.mse_loss(predictor(text), mark)
        error.backward()
        optim.step()
    return error.item()


def main():
    reader = Reader()
    sgd = torch.optim.SGD(reader.parameters(), lr=0.01)
    text = torch.randn(256, 30, 4)
    mark = text[:, -1, :1]
    batches = [(text[i : i + 32], mark[i : i + 32]) for i in range(0, 256, 32)]
    for epoch in range(6):
        print(epoch, train_epoch(reader, batches, sgd))


main()
"""

SCRIPTS["lower"] = """\
from torch import nn, optim, randn, manual_seed

manual_seed(1)
LR = 5.0
x = randn(200, 10)
y = x[:, :4].argmax(1)
mlp = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 4))
sgd = optim.SGD(mlp.parameters(), lr=LR, momentum=0.9)
for i in range(60):
    sgd.zero_grad(); loss = nn.CrossEntropyLoss()(mlp(x), y); loss.backward(); sgd.step()
"""

SCRIPTS["raise"] = """\
import torch
from torch import nn

torch.manual_seed(0)


class Learner:
    def __init__(self):
        self.net = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 4))
        self.opt = torch.optim.SGD(self.net.parameters(), 1e-6)

    def fit(self, x, y, steps):
        for _ in range(steps):
            loss = nn.functional.cross_entropy(self.net(x), y)
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()


x = torch.randn(200, 10)
Learner().fit(x, x[:, :4].argmax(1), 210)
"""

SCRIPTS["zero"] = """\
import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(128, 10)
label = data[:, :3].argmax(1)
clf = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
solver = torch.optim.SGD(clf.parameters(), lr=0.05)
ce = nn.CrossEntropyLoss()
for it in range(60):
	out = clf(data)
	cost = ce(out, label)
	cost.backward()  # no zero_grad
	solver.step()
"""

SCRIPTS["appended"] = """\
import argparse

import torch
from torch import nn


def build(depth, width):
    blocks = [nn.Linear(10, width), nn.ReLU()]
    for _ in range(depth):
        blocks.append(nn.Linear(width, width))
        blocks.append(nn.ReLU())
    blocks.append(nn.Linear(width, 3))
    return nn.Sequential(*blocks)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=20)
    args = parser.parse_args([])
    torch.manual_seed(0)
    body = build(args.depth, 64)
    adam = torch.optim.SGD(
        body.parameters(),
        lr=0.01,
    )
    x = torch.randn(128, 10)
    y = x[:, :3].argmax(1)
    for step in range(40):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(body(x), y)
        loss.backward()
        adam.step()


if __name__ == "__main__":
    main()
"""

SCRIPTS["sequential"] = """\
import torch
from torch import nn

torch.manual_seed(0)
tower = nn.Sequential(
    nn.Linear(10, 32),
    nn.Sigmoid(),
    *[m for _ in range(12) for m in (nn.Linear(32, 32), nn.Sigmoid())],
    nn.Linear(32, 1),
    nn.Sigmoid(),
)
opt = torch.optim.SGD(tower.parameters(), lr=0.1)
x = torch.randn(128, 10)
y = (x[:, :1] > 0).float()
for _ in range(40):
    loss = nn.functional.binary_cross_entropy(tower(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

SCRIPTS["attribute_softmax"] = """\
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.body(x)
        return self.softmax(x)


def run():
    classifier = Classifier()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    x = torch.randn(256, 10)
    loader = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), batch_size=32, shuffle=True)
    for epoch in range(6):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(classifier(inputs), labels)
            loss.backward()
            optimizer.step()


run()
"""

SCRIPTS["log_probabilities"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(dim=1))
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.nll_loss(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["loader"] = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def main():
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    features = 2000 * torch.rand(512, 10) + 3000
    classes = features[:, :4].argmax(1)
    loader = DataLoader(TensorDataset(features, classes), batch_size=64, shuffle=True)
    for epoch in range(8):
        for xb, yb in loader:
            loss = nn.functional.cross_entropy(net(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()


main()
"""

SCRIPTS["function_inputs"] = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def evaluate(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean()


def main():
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    features = 2000 * torch.rand(512, 10) + 3000
    classes = features[:, :4].argmax(1)
    loader = DataLoader(TensorDataset(features, classes), batch_size=64, shuffle=True)
    for epoch in range(8):
        print(evaluate(net, features, classes))
        for xb, yb in loader:
            loss = nn.functional.cross_entropy(net(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()


main()
"""

SCRIPTS["slices"] = """\
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 6)
prices = 2000 + 500 * x[:, :1]
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
mse = nn.MSELoss()
for epoch in range(20):
    for i in range(0, 256, 32):
        batch, target = x[i : i + 32], prices[i : i + 32]
        loss = mse(model(batch), target)
        opt.zero_grad()
        loss.backward()
        opt.step()
"""

SCRIPTS["starred"] = """\
import torch
from torch import nn

torch.manual_seed(0)
tower = nn.Sequential(
    nn.Linear(10, 32), nn.Sigmoid(),
    *[m for _ in range(12) for m in (nn.Linear(32, 32), nn.Sigmoid())],
    nn.Linear(32, 3),
)
opt = torch.optim.SGD(tower.parameters(), lr=0.1)
x = torch.randn(128, 10)
y = x[:, :3].argmax(1)
for _ in range(40):
    loss = nn.functional.cross_entropy(tower(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

SCRIPTS["broadcast"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
opt = torch.optim.SGD(net.parameters(), lr=0.1)
criterion = nn.MSELoss(reduction="sum")
x = torch.randn(256, 10)
y = x[:, 0]
for _ in range(60):
    opt.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["tiny_batches"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(128, 1, 8, 8)
y = torch.arange(128) % 4
for i in range(0, 128, 2):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x[i:i+2]), y[i:i+2])
    loss.backward()
    opt.step()
"""

SCRIPTS["detach"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 4)
    def forward(self, x):
        h = self.body(x)
        return self.head(h.detach())
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["dropout"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.95),
    nn.Linear(32, 32), nn.ReLU(), nn.Dropout(p=0.95), nn.Linear(32, 4))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["evalmode"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = 5 * torch.randn(256, 10) + 20
y = x[:, :4].argmax(1)
for epoch in range(6):
    for i in range(0, 256, 32):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x[i:i+32]), y[i:i+32])
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print((net(x).argmax(1) == y).float().mean())
"""

SCRIPTS["forgot"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 4)
    def forward(self, x):
        return self.head(self.body(x))
net = Net()
opt = torch.optim.SGD(net.head.parameters(), lr=0.1)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["stale"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
        self.head = nn.Linear(32, 8)
    def forward(self, x):
        return self.head(self.body(x))
def main():
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    net.head = nn.Linear(32, 4)
    x = torch.randn(256, 10)
    y = x[:, :4].argmax(1)
    for _ in range(60):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
main()
"""

SCRIPTS["lists"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(10, 32), nn.Linear(32, 32)]
        self.head = nn.Linear(32, 4)
    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["minus"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(60):
    opt.zero_grad()
    loss = -nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["residual"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))
        nn.init.kaiming_normal_(self.f[0].weight); nn.init.kaiming_normal_(self.f[2].weight)
    def forward(self, x):
        return x + self.f(x)
net = nn.Sequential(nn.Linear(10, 32), *[Block(32) for _ in range(24)], nn.Linear(32, 4))
opt = torch.optim.SGD(net.parameters(), lr=1e-5)
x = torch.randn(256, 10)
y = x[:, :4].argmax(1)
for _ in range(12):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["summed"] = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.01)
criterion = nn.MSELoss(reduction="sum")
x = torch.randn(256, 10)
y = x[:, :1]
for _ in range(60):
    opt.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["dead"] = """\
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 32), nn.Linear(32, 3)
        nn.init.constant_(self.a.bias, -8.0)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


m = Dead()
o = torch.optim.SGD(m.parameters(), lr=0.1)
x = torch.randn(128, 10)
y = x[:, :3].argmax(1)
for _ in range(60):
    o.zero_grad()
    F.cross_entropy(m(x), y).backward()
    o.step()
"""

SCRIPTS["recurrent"] = """\
import torch
from torch import nn
torch.manual_seed(0)
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 32, batch_first=True)
        self.out = nn.Linear(32, 2)
    def forward(self, x):
        states, last = self.rnn(x)
        return self.out(last[-1])
reader = Reader()
opt = torch.optim.SGD(reader.parameters(), lr=0.02)
x = torch.randn(64, 100, 4)
y = (x[:, 0, 0] > 0).long()
for _ in range(60):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(reader(x), y)
    loss.backward()
    opt.step()
"""

SCRIPTS["module_list"] = """\
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, width=32, depth=12):
        super().__init__()
        self.inp = nn.Linear(8, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        x = torch.sigmoid(self.inp(x))
        for layer in self.hidden:
            x = torch.sigmoid(layer(x))
        return self.out(x)


def main():
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    crit = nn.CrossEntropyLoss()
    inputs = torch.randn(256, 8)
    labels = inputs[:, :3].argmax(1)
    for epoch in range(40):
        loss = crit(net(inputs), labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(loss.item())


if __name__ == "__main__":
    main()
"""
