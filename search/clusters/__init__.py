"""What starts a cluster: the files for `ray up`, KubeRay and SLURM, checked before they cost money."""
