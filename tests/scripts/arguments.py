#!/usr/bin/env python
"""Fits a line. argparse, logging, and a guard."""

import argparse
import atexit
import pickle
import sys

import torch
from fingerprint import fingerprint


class Line(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(1, width)
        self.out = torch.nn.Linear(width, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.linear(x)))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("-m", "--momentum", type=float, default=0.0)
    parser.add_argument("files", nargs="*")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    print(sys.argv[0], vars(args), __name__, __file__)
    atexit.register(print, "at exit")
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    model, criterion = Line(8), torch.nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    for _ in range(10):
        model.zero_grad()
        loss = criterion(model(x), torch.sin(3 * x))
        loss.backward()
        optimizer.step()
    print(loss.item(), fingerprint(pickle.loads(pickle.dumps(model))))


if __name__ == "__main__":
    sys.exit(main())
