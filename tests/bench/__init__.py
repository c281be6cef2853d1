"""What watching costs, measured: GradScope beside wandb, torchexplorer and plain hooks, on three trainings.

`make bench` prints the table and what the dashboard takes for the largest run, `make bench ARGS=--readme` puts the table
into the README too, `make bench ARGS=--big` prints only the dashboard's figures, and `make bench ARGS=--soak` takes 10,000
steps of a small training and says by how much memory grew.
"""
