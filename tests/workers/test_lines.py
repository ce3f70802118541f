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
    ("code", "peak_kb", "error_type", "text"),
    [
        (0, 0, "Runtime.ExitError", "Runtime exited without providing a reason"),
        (1, 0, "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        (-9, 0, "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        (-9, 128 * 1024, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
        (-11, 128 * 1024, "Runtime.ExitError", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_how_a_process_ended_has_lambdas_words(code: int, peak_kb: int, error_type: str, text: str) -> None:
    failure = failures.exited(code, peak_kb, 128)
    assert (failure.error_type, failure.message("id")) == (error_type, f"RequestId: id Error: {text}")
