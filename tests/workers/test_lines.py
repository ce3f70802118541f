from __future__ import annotations

import pytest

from eventfn.workers import failures, lines

NOW = 1_672_531_200_007  # 2023-01-01T00:00:00.007Z


def test_the_lines_are_lambdas() -> None:
    assert lines.log_stream(NOW, "$LATEST", "ab" * 16) == "2023/01/01/[$LATEST]" + "ab" * 16
    assert lines.start("id", "$LATEST") == "START RequestId: id Version: $LATEST"
    assert lines.end("id") == "END RequestId: id"
    assert lines.report("id", 3.005, 128, 36, 110.1) == (
        "REPORT RequestId: id\tDuration: 3.00 ms\tBilled Duration: 114 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t"
    )
    assert lines.report("id", 3.01, 128, 36, None, "Status: timeout") == (
        "REPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\tStatus: timeout"
    )
    assert lines.timed_out(NOW, "id", 3) == "2023-01-01T00:00:00.007Z id Task timed out after 3.00 seconds\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "Runtime exited without providing a reason"),
        (1, "Runtime exited with error: exit status 1"),
        (-9, "Runtime exited with error: signal: killed"),
        (-11, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_how_a_process_ended_has_lambdas_words(code: int, text: str) -> None:
    failure = failures.exited(code)
    assert (failure.error_type, failure.message("id")) == ("Runtime.ExitError", f"RequestId: id Error: {text}")


def test_what_the_kernel_killed_for_memory_says_so() -> None:
    failure = failures.out_of_memory()
    expected = "Runtime.OutOfMemory", "RequestId: id Error: Runtime exited with error: signal: killed"
    assert (failure.error_type, failure.message("id")) == expected
