"""What the numbers say: workdirs and records read, arms compared, statistics, protocol. Never imports JAX."""
