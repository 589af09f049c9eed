"""Where images come from: a file a dataset, each a `data.dataset.Dataset`, and what they read files with."""
