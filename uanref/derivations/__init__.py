"""The mathematics of the layers, told node by node: steps, local backward rules, proofs."""
