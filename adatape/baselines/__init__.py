"""The adaptive transformers that AdaTape is compared with; they share its layers, data, training and evaluation."""
