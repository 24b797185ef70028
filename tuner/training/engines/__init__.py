"""Engines: each trains networks on one Keras backend, behind the protocol in `base`.

An engine knows nothing of metrics, pruning or patience: the training loop has those. Start at
`backends.start`.
"""
