"""The resources of Lambda's API: a line for each.

Not here: what they do (a file per resource), and who mounts them (app).
"""

from __future__ import annotations

from eventfn.api.account import Account
from eventfn.api.aliases import Aliases
from eventfn.api.capacity import CapacityProviders
from eventfn.api.code_signing import CodeSigning
from eventfn.api.code_sources import CodeSources
from eventfn.api.concurrency import Concurrency
from eventfn.api.durable import Durable
from eventfn.api.event_invoke import EventInvokeConfigs
from eventfn.api.functions import Functions
from eventfn.api.invocations import Invocations
from eventfn.api.layers import Layers
from eventfn.api.locations import Locations
from eventfn.api.mappings import EventSourceMappings
from eventfn.api.operations import Resource
from eventfn.api.policies import Policies
from eventfn.api.ports import Node
from eventfn.api.recursion import Recursion
from eventfn.api.runtime_management import RuntimeManagement
from eventfn.api.scaling import Scaling
from eventfn.api.streaming import Streaming
from eventfn.api.tags import TagsOfResources
from eventfn.api.urls import Urls
from eventfn.api.versions import Versions


def resources(node: Node, locations: Locations, *, loopback: bool) -> list[Resource]:
    """`loopback`: callers are on this machine."""
    control = node.control
    code = CodeSources(control, loopback=loopback)
    return [
        Account(control),
        Aliases(control),
        CapacityProviders(control),
        CodeSigning(control),
        Concurrency(control, node.environments),
        Durable(control, node.durable),
        EventInvokeConfigs(control),
        EventSourceMappings(control, node.mappings),
        Functions(control, code, locations, node.metrics),
        Invocations(node),
        Layers(control, code, locations),
        Policies(control),
        Recursion(control),
        RuntimeManagement(control, code),
        Scaling(control),
        Streaming(node),
        TagsOfResources(control, node.mappings),
        Urls(control, node.function_url, node.urls_changed),
        Versions(control),
    ]
