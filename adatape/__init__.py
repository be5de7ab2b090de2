"""AdaTape (Xue et al., ICML 2023) in PyTorch: the model, its training and its evaluation."""
