"""Softmax in the model, and again inside the cross-entropy: the loss cannot fall below 1.46."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)

model = nn.Sequential(
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
    nn.Softmax(dim=1),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()

for _ in range(150):
    batch = torch.randint(0, len(images), (128,))
    loss = criterion(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 150 steps; guessing gives {torch.tensor(10.0).log().item():.3f}")
