"""The networks: one file per published network, and the small ones shipped with the package; `nn.Module` only."""
