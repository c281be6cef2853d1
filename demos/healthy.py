"""A small residual network that learns as it should: GradScope has nothing to say."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)


class Residual(nn.Module):
    """Adds a block's input to its output."""

    def __init__(self, width):
        super().__init__()
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x):
        """Gives x plus what the block makes of it."""
        return x + self.block(x)


model = nn.Sequential(nn.Linear(64, 64), *(Residual(64) for _ in range(6)), nn.LayerNorm(64), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()

for _ in range(150):
    batch = torch.randint(0, len(images), (128,))
    loss = criterion(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 150 steps; guessing gives {torch.tensor(10.0).log().item():.3f}")
