"""The parts of the environment: machines, cluster, mesh, workloads, samples; and the settings they are made from."""
