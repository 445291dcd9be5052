"""The files of a model, wherever they lie: small ones as they are, weights tensor by tensor, without a model."""
