import torch
from fingerprint import fingerprint
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 8)
y = (x.sum(1, keepdim=True) > 0).float()

model = nn.Sequential(
    nn.Linear(8, 16),
    nn.ReLU(),
    nn.Linear(16, 1),
)
optimizer = torch.optim.SGD(
    model.parameters(),
    lr=0.1,
)

for step in range(12):
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
    print(step, loss.item())

print(fingerprint(model))
