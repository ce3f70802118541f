"""The service model is the public one, and what stands in it is read."""

from __future__ import annotations

import pytest

from eventfn.api.service_model import service_model
from tests.api.derive_service_model import FILE, derived


def test_the_file_is_what_the_installed_botocore_has() -> None:
    assert FILE.read_text() == derived(), "run: python -m tests.api.derive_service_model"


def test_every_operation_has_its_shapes() -> None:
    model = service_model()
    assert len(model.operations) == 88
    for name, operation in model.operations.items():
        assert operation.name == name
        assert model.input_of(name).type == "structure"
        assert operation.output is None or model.shapes[operation.output].type == "structure"
    for shape in model.shapes.values():
        inner = [*shape.members.values(), *(part for part in (shape.member, shape.key, shape.value) if part)]
        assert all(member.shape in model.shapes for member in inner)


def test_places_and_constraints_are_read() -> None:
    model = service_model()
    given = model.input_of("Invoke")
    assert given.payload == "Payload"
    assert given.required == ("FunctionName",)
    kind = given.members["InvocationType"]
    assert (kind.location, kind.location_name) == ("header", "X-Amz-Invocation-Type")
    assert model.shapes[kind.shape].enum == ("Event", "RequestResponse", "DryRun")
    memory = model.shapes["MemorySize"]
    assert (memory.type, memory.min, memory.max) == ("integer", 128, 32768)
    assert model.shapes["EnvironmentVariableName"].sensitive
    fault = model.shapes["TooManyRequestsException"].error
    assert fault is not None
    assert (fault.http_status_code, fault.sender_fault) == (429, True)


@pytest.mark.parametrize("kind", ["documentation", "box", "streaming"])
def test_nothing_of_a_client_stands_in_the_file(kind: str) -> None:
    assert f'"{kind}":' not in FILE.read_text()
