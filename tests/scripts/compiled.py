import torch
from fingerprint import fingerprint
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
model = torch.compile(net, backend="aot_eager")
x = torch.randn(16, 8)
for _ in range(8):
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
print(fingerprint(net))
