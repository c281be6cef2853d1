import sys

import torch
from fingerprint import fingerprint
from torch import nn
from torch.amp import GradScaler, autocast

dtype = torch.float16 if sys.argv[1] == "float16" else torch.bfloat16
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scaler = GradScaler("cpu", init_scale=2.0**10, enabled=dtype is torch.float16)
x = torch.randn(32, 8)
for step in range(10):
    with autocast("cpu", dtype=dtype):
        loss = nn.functional.mse_loss(model(x), x[:, :1])
    if step == 6:
        loss = loss * float("inf")
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if step == 6 and not scaler.is_enabled():
        continue
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    print(step, loss.item(), scaler.get_scale())
print(fingerprint(model))
