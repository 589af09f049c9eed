"""What a sweep is: arms, the catalogue of ablations, a sweep's file, its plan, and the search of learning rates."""
