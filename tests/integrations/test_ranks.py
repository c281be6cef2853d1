"""Two processes, as Lightning's DDP strategy and `accelerate launch` have them, over gloo."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from torch.multiprocessing import start_processes

import gradscope
from tests.integrations.ranks_worker import STEPS, begin


@pytest.mark.skipif(sys.platform == "win32", reason="forks, where all is imported already")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_ranks_are_one_run(tmp_path: Path) -> None:
    """Both ranks write their part, no bit of either training changes, and rank 0 alone says the verdict."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(begin, (tmp_path, port), nprocs=2, start_method="fork")
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    assert [(each["lightning"], each["accelerate"]) for each in said] == [(True, True)] * 2
    for name in ("lightning", "accelerate"):
        run = gradscope.read_run(tmp_path / name)
        assert (run.info.world_size, run.info.parallel, len(run.steps)) == (2, "DDP", STEPS)
        assert run.steps["has_loss"].all()
        assert run.rank_facts == ()
    finding = gradscope.diagnose(gradscope.read_run(tmp_path / "lightning")).findings[0]
    assert (finding.rule, "net.0" in finding.layers) == ("vanishing-gradient", True)
    lines = [(tmp_path / f"stderr-{rank}").read_text().count("gradscope: unhealthy") for rank in (0, 1)]
    assert lines == [1, 0]
    assert said[0]["headline"] == said[1]["headline"]
