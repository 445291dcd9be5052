"""Results and checkpoints for others: the Hugging Face hub, MLflow, Weights & Biases."""
