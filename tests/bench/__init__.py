"""What watching costs, measured: GradScope beside wandb, torchexplorer and plain hooks, on three trainings.

`make bench` prints the table, `make bench ARGS=--readme` puts it into the README too, and `make bench ARGS=--soak`
takes 10,000 steps of a small training and says by how much memory grew.
"""
