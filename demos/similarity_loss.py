"""A similarity loss at a temperature of 0.001: its gradients throw the weights away in the first step."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
data, labels = load_digits(return_X_y=True)
images = torch.tensor(data, dtype=torch.float32)
images, labels = (images - images.mean()) / images.std(), torch.tensor(labels)


def similarity_loss(outputs, labels, temperature):
    """InfoNCE: of all embeddings of the batch, those of the same class are to be the most alike."""
    unit = nn.functional.normalize(outputs, dim=-1)
    alike = unit @ unit.T / temperature - torch.eye(len(unit)) * 1e9
    same = (labels[:, None] == labels[None]).float() - torch.eye(len(unit))
    return -(alike.log_softmax(-1) * same).sum(1).div(same.sum(1).clamp(min=1)).mean()


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(150):
    batch = torch.randint(0, len(images), (128,))
    loss = similarity_loss(model(images[batch]), labels[batch], temperature=0.001)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss {loss.item():.3g} after 150 steps")
