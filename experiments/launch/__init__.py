"""How a sweep's runs are carried out: their order, workers, what they cost, and what is shown meanwhile."""
