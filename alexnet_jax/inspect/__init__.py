"""Looking into networks: drawn, compiled for absent accelerators, or taken from a run's folder after training."""
