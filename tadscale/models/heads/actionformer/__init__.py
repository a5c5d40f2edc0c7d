"""ActionFormer (Zhang, Wu, Li, ECCV 2022): anchor-free, a pyramid of local attention.
`network` is what is trained and exported, `objective` how it is taught."""
