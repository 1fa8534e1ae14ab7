"""Files that start a cluster, for `ray up`, KubeRay and SLURM, checked before they cost money."""
