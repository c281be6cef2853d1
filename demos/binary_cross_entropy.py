"""A sigmoid in the model, and again inside the loss: what the loss takes for logits lies between 0 and 1."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

torch.manual_seed(0)
data, kinds = load_breast_cancer(return_X_y=True)
tumours = torch.tensor(data, dtype=torch.float32)
tumours, benign = (tumours - tumours.mean(0)) / tumours.std(0), torch.tensor(kinds, dtype=torch.float32)[:, None]

model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = nn.BCEWithLogitsLoss()

for _ in range(150):
    batch = torch.randint(0, len(tumours), (64,))
    loss = criterion(model(tumours[batch]), benign[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 150 steps; guessing gives {torch.tensor(2.0).log().item():.3f}")
