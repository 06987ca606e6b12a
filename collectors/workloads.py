"""Whether the labels of a server and those that an exporter gives a device name the same workload.

Both may know more or less: a server's come from the settings or from service discovery, a device's from
Kubernetes or Slurm through its exporter. They name the same workload when they agree in all labels that both
have, one of which names a single workload and not merely its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

IDENTITIES = frozenset(("pod", "container_id", "job"))
SCOPES = ("cluster", "namespace")  # two of these may each have a pod of one name


def is_same(server: Mapping[str, str], device: Mapping[str, str]) -> bool:
    """Whether the labels agree, and in enough."""
    both = {name for name, value in server.items() if value and device.get(name)}
    return not both.isdisjoint(IDENTITIES) and all(server[name] == device[name] for name in both)


def is_one(devices: Iterable[Mapping[str, str]]) -> bool:
    """Whether devices that all agree with one server belong to one workload.

    Where the server does not say in which namespace it is, pods of the same name in two may agree with it.
    """
    devices = list(devices)
    return all(len({value for device in devices if (value := device.get(name))}) < 2 for name in SCOPES)
