"""Ray's command line, with 127.0.0.1 as the address of this machine.

`ray start` replaces 127.0.0.1 by the machine's outward address, and its servers (GCS, raylets, workers) then listen on
every interface. There is no option against it; the switch RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, meant for laptops with
a firewall, keeps the loopback address but refuses a second node. So this process answers the two questions itself, for
itself: what it starts gets the address as an argument. Drivers in the cluster need the switch (`local.py` sets it).
Checked with ray 2.60.0: with it every listening socket of a cluster is on 127.0.0.1.

What it starts shares the machine with the nodes that are there, and is waited for as a job waits for a node of its own.
"""

from ray._private import ray_constants, services
from ray.scripts.scripts import main

from tadscale.runtime.cluster.patient_start import patient_start

if __name__ == "__main__":
    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = True
    with patient_start():
        main()
