"""Squared error on targets of hundreds: its gradient grows with the distance, and the first steps throw the weights."""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.manual_seed(0)
data, disease = load_diabetes(return_X_y=True)
patients = torch.tensor(data, dtype=torch.float32)
patients, progression = patients / patients.std(0), torch.tensor(disease, dtype=torch.float32)[:, None]

model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
criterion = nn.MSELoss()

for _ in range(150):
    batch = torch.randint(0, len(patients), (64,))
    loss = criterion(model(patients[batch]), progression[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.4g} after 150 steps; guessing the mean gives {progression.var().item():.4g}")
