"""Imported by the scripts from beside them: all bits of a training, as one short text."""

import hashlib
import random

import numpy as np
import torch

random.seed(5)
np.random.seed(5)


def fingerprint(*models):
    digest = hashlib.sha256()
    for model in models:
        for tensor in model.state_dict().values():
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    digest.update(repr((random.getstate(), np.random.get_state()[1].tolist())).encode())
    return digest.hexdigest()
