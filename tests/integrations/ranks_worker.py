"""What each of two ranks does in test_ranks.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from accelerate import Accelerator
from torch import nn

from gradscope.integrations.accelerate import watch
from gradscope.integrations.lightning import GradScopeCallback
from tests.integrations.fits import data, net

STEPS = 4


def batches() -> torch.utils.data.DataLoader[Any]:
    """The same for all ranks; each framework shares them out."""
    return torch.utils.data.DataLoader(data(2 * STEPS), batch_size=64)


class Digits(L.LightningModule):
    """Classifies digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net("vanishing")

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def by_lightning(*callbacks: L.Callback) -> list[float]:
    """The weights that a Trainer of two processes ends with."""
    model = Digits()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        enable_checkpointing=False,
        callbacks=list(callbacks),
        **quiet,
    )
    trainer.fit(model, batches())
    return weights(model)


def by_accelerate(folder: Path | None = None) -> list[float]:
    """The weights that a loop of two processes ends with."""
    accelerator, model = Accelerator(cpu=True), net()
    model, optimizer, loader = accelerator.prepare(model, torch.optim.Adam(model.parameters()), batches())
    scope = None if folder is None else watch(accelerator, model, optimizer, run_dir=folder, every=1)
    for images, labels in loader:
        accelerator.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        optimizer.zero_grad()
    if scope is not None:
        scope.close()
    return weights(model)


def weights(model: nn.Module) -> list[float]:
    """All of them."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def begin(rank: int, folder: Path, port: int) -> None:
    """Trains with and without us, as a process that torchrun has started, and says whether that is the same."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "a job"}
    os.environ.update({name: str(value) for name, value in environment.items()}, GLOO_SOCKET_IFNAME="lo")
    os.dup2(os.open(folder / f"stderr-{rank}", os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    warnings.simplefilter("ignore")
    callback = GradScopeCallback(run_dir=folder / "lightning", every=1)
    said = {
        "lightning": by_lightning(callback) == by_lightning(),
        "accelerate": by_accelerate(folder / "accelerate") == by_accelerate(),
        "headline": callback.diagnosis.headline,
    }
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
    torch.distributed.destroy_process_group()
