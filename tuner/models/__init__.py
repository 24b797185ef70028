"""Networks: the shipped model functions, the rules for every network, and `.keras` files.

Keras is imported only when a network is built or loaded. Start at `known_models.build`.
"""
