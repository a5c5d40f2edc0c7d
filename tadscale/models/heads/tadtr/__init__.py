"""TadTR (Liu et al., IEEE TIP 2022): a set of action queries, temporal deformable attention, no suppression needed.
`network` is what is trained and exported, `objective` how it is taught."""
