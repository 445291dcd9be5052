"""How much each attention layer, MLP and block changes the residual stream: pure torch, no Ray, no result files."""
