"""Triplet loss on the hardest triplets with steps that are too long: all embeddings become one."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)


def triplet_loss(outputs, labels, margin=0.5):
    """How much farther than any other class, less a margin, the farthest embedding of one's own class is."""
    distance = (outputs[:, None] - outputs[None]).square().sum(-1).add(1e-12).sqrt()
    same = labels[:, None] == labels[None]
    farthest = distance.masked_fill(~same, 0).amax(1)
    nearest = distance.masked_fill(same, 1e9).amin(1)
    return torch.relu(farthest - nearest + margin).mean()


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

for _ in range(150):
    batch = torch.randint(0, len(images), (64,))
    loss = triplet_loss(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 150 steps; embeddings that are all the same give the margin, 0.5")
