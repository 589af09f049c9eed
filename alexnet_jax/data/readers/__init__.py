"""Readers: a file a dataset, each with its `data.dataset.Dataset`, and what they find and decode image files with."""
