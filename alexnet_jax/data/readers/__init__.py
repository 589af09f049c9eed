"""Readers: one file for each dataset, with its `data.dataset.Dataset`, and how image files are found and decoded."""
