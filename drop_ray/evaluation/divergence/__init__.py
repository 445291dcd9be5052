"""How far the predictions of variants are from the base's, over the tokens of a text."""
