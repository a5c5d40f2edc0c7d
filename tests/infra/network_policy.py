"""Whether NetworkPolicies let a connection through: the semantics of networking.k8s.io/v1, for numbered ports.

A pod that some policy selects for a direction is closed in it, but for what the rules of all such policies allow together. A
connection needs both: the sender's egress and the receiver's ingress.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class End:
    """A pod, or an address outside when it has no labels."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "tadscale"
    address: str = "10.1.2.3"
    is_pod: bool = True


def outside(address: str) -> End:
    """Somebody who is no pod."""
    return End(address=address, is_pod=False, namespace="")


def allowed(policies: Iterable[dict[str, Any]], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let through."""
    policies = list(policies)
    return _open(policies, "Egress", source, target, port, protocol) and _open(
        policies, "Ingress", target, source, port, protocol
    )


def _open(policies: list[dict[str, Any]], way: str, own: End, peer: End, port: int, protocol: str) -> bool:
    binding = [
        policy
        for policy in policies
        if own.is_pod
        and policy["metadata"]["namespace"] == own.namespace
        and way in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], own.labels)
    ]
    if not binding:
        return True
    rules = [(rule, policy) for policy in binding for rule in policy["spec"].get(way.lower(), [])]
    return any(_matches(rule, policy, way, peer, port, protocol) for rule, policy in rules)


def _matches(rule: dict[str, Any], policy: dict[str, Any], way: str, peer: End, port: int, protocol: str) -> bool:
    peers = rule.get("to" if way == "Egress" else "from")
    ports = rule.get("ports")
    home = policy["metadata"]["namespace"]
    right_peer = not peers or any(_is(one, home, peer) for one in peers)
    right_port = not ports or any((one.get("protocol", "TCP"), one["port"]) == (protocol, port) for one in ports)
    return right_peer and right_port


def _is(rule: dict[str, Any], home: str, peer: End) -> bool:
    if "ipBlock" in rule:
        address, block = ipaddress.ip_address(peer.address), rule["ipBlock"]
        excepted = any(address in ipaddress.ip_network(one) for one in block.get("except", []))
        return address in ipaddress.ip_network(block["cidr"]) and not excepted
    if not peer.is_pod:
        return False
    names = {"kubernetes.io/metadata.name": peer.namespace}
    right_place = selects(rule["namespaceSelector"], names) if "namespaceSelector" in rule else peer.namespace == home
    return right_place and selects(rule.get("podSelector", {}), peer.labels)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    expressions = selector.get("matchExpressions", [])
    tests = {
        "In": lambda one: labels.get(one["key"]) in one["values"],
        "NotIn": lambda one: labels.get(one["key"]) not in one["values"],
        "Exists": lambda one: one["key"] in labels,
        "DoesNotExist": lambda one: one["key"] not in labels,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        tests[one["operator"]](one) for one in expressions
    )
