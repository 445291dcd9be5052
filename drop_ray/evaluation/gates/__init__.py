"""Damage gates: small tests of what a model must still be able to do, made from a seed in the model's own tokens.

`battery` lists them, one file each. A gate asks a `TokenModel` and says of every item whether it was answered rightly;
`verdict` compares a variant's answers with the base's, item by item; `cliff` finds how much can be dropped until a gate
stops it. None of them needs a file or a download.
"""
