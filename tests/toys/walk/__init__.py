"""A study's experiment that keeps checkpoints and says which steps it takes: a random walk. Made to be killed."""
