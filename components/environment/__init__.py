"""From settings to components: which values of a stack go into which component, a file for each layer.

No resource is made here but by a component. Each layer is handed the ones below it.
"""

from components.environment.cluster import cluster
from components.environment.machines import Machines, ssh_key
from components.environment.mesh import Mesh, mesh
from components.environment.policies import policies
from components.environment.proof import proof
from components.environment.workloads import Workloads, workloads

__all__ = ["Machines", "Mesh", "Workloads", "cluster", "mesh", "policies", "proof", "ssh_key", "workloads"]
