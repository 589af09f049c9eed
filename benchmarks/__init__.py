"""Speed, measured side by side with PyTorch. `python -m benchmarks.full --help`; results: RESULTS.md."""
