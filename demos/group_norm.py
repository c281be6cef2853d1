"""GroupNorm with one channel a group behind global pooling: it normalises single numbers, and all becomes zero."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)

model = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)),
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.GroupNorm(32, 32),
    nn.Flatten(),
    nn.Linear(32, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

for _ in range(100):
    batch = torch.randint(0, len(images), (64,))
    loss = criterion(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 100 steps; guessing gives {torch.tensor(10.0).log().item():.3f}")
