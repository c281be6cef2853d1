import torch
from fingerprint import fingerprint
from torch import nn


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
        self.decoder = nn.Linear(4, 8)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Classifier(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.encoder(x))


def pretrain(x):
    model = AE()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):
        loss = (model(x) - x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("pretrained", loss.item())
    return model


def finetune(encoder, x, y):
    model = Classifier(encoder)
    criterion = nn.CrossEntropyLoss()
    opt = torch.optim.SGD(model.parameters(), lr=1e-1)
    for epoch in range(6):
        if epoch == 4:
            opt = torch.optim.SGD(model.head.parameters(), lr=1e-2)
        loss = criterion(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("finetuned", loss.item())
    return model


torch.manual_seed(0)
x = torch.randn(32, 8)
pretrained = pretrain(x)
print(fingerprint(pretrained, finetune(pretrained.encoder, x, (x[:, 0] > 0).long())))
