"""GradScope inside the frameworks that people train with, and its runs in the trackers that they look at.

Adapters over `gradscope.watch`:

    from gradscope.integrations.lightning import GradScopeCallback      # Trainer(callbacks=[GradScopeCallback()])
    from gradscope.integrations.transformers import GradScopeCallback   # Trainer(..., callbacks=[GradScopeCallback()])
    from gradscope.integrations.skorch import GradScopeCallback         # NeuralNet(..., callbacks=[GradScopeCallback()])
    from gradscope.integrations.ignite import attach                    # attach(trainer, model, optimizer)
    from gradscope.integrations.accelerate import watch                 # watch(accelerator, model, optimizer)

Each file needs its framework and nothing else; `import gradscope` loads none of them. All take the keyword options of
`gradscope.watch`, find the optimizers, the loss scale and the loss by themselves, close the run when the training ends
and say the verdict in one line on stderr (not with `quiet=True`). `scope` and `diagnosis` are theirs to ask.

    framework.py   imports a framework, or says what to install
    losses.py      the loss of a training, as `backward` is called on it
    training.py    what all of them share: a training under watch, from its first step to its verdict

Exporters of recorded runs, see `gradscope export --to`: tensorboard.py, wandb.py, mlflow.py, prometheus.py,
opentelemetry.py. None needs torch; each needs the package of its tool.

    recorded.py    what all of them share: how they read a run, follow one that grows, and ask for their package
    scalars.py     a run as named numbers, the same names in every tracker
    latest.py      its newest numbers, for tools that ask how things are now
"""
