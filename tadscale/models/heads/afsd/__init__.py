"""AFSD (Lin et al., CVPR 2021): anchor-free, coarse predictions refined by what is salient at their boundaries.
`network` is what is trained and exported, `objective` how it is taught; `pyramid`, `frame_level`, `boundary_pooling` and
`refinement` are the network's parts."""
