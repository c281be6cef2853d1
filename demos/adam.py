"""Adam on a loss in tiny units: its eps is larger than its second moments, and no step is left."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()

for _ in range(150):
    batch = torch.randint(0, len(images), (128,))
    loss = 1e-12 * criterion(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {1e12 * loss.item():.3g} after 150 steps; guessing gives {torch.tensor(10.0).log().item():.3f}")
