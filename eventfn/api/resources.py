"""The resources of Lambda's API: a line for each.

Not here: what they do (a file per resource), and who mounts them (app).
"""

from __future__ import annotations

from eventfn.api.account import Account
from eventfn.api.capacity import CapacityProviders
from eventfn.api.code_signing import CodeSigning
from eventfn.api.concurrency import Concurrency
from eventfn.api.event_invoke import EventInvokeConfigs
from eventfn.api.function_settings import FunctionSettings
from eventfn.api.mappings import EventSourceMappings
from eventfn.api.operations import Resource
from eventfn.api.policies import Policies
from eventfn.api.ports import Node
from eventfn.api.tags import TagsOfResources
from eventfn.api.urls import Urls


def resources(node: Node) -> list[Resource]:
    control = node.control
    return [
        Account(control),
        Concurrency(control, node.environments),
        EventInvokeConfigs(control),
        Policies(control),
        CapacityProviders(control),
        CodeSigning(control),
        FunctionSettings(control),
        EventSourceMappings(control, node.mappings),
        TagsOfResources(control, node.mappings),
        Urls(control, node.function_url),
    ]
