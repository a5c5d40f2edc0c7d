"""G-TAD (Xu, Zhao, Rojas, Thabet, Ghanem, CVPR 2020): anchor-based, sub-graphs of a graph of time steps.
`network` is what is trained and exported, `objective` how it is taught."""
