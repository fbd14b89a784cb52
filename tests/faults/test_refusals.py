"""A store that answers, and refuses: the bucket is gone, a permission was taken away, it is full. It is told once, and it heals by itself."""

import json

import pytest

from e2e.driver import wait_for
from faults import faults
from faults.looks import Port, logged
from oracle import Stream, Watcher, compare, read_committed

REFUSALS = {
    "bucket gone": (404, "NoSuchBucket", ()),
    "permission gone": (403, "AccessDenied", ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")),
    "full": (507, "XMinioStorageFull", ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")),
}


@pytest.mark.parametrize("ends", ["it heals", "it is asked to stop"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_store_that_refuses_is_told_once_until_it_takes_again(refusal, ends, kafka, topic, proxy, through):
    if ends == "it is asked to stop" and refusal != "permission gone":
        pytest.skip("how it ends does not depend on what is refused")
    status, code, operations = REFUSALS[refusal]
    name = topic(partitions=6)
    sink = through(name)
    sink.configure(roll={"records": 1000, "age": "500ms"})
    sink.settings.update(http="127.0.0.1:0", shutdown_deadline="25s" if ends == "it heals" else "3s")
    with Watcher(sink.files):
        with Stream(kafka, name, 6, records_per_second=600), sink.start() as worker:
            port = Port(worker)
            wait_for(lambda: port.metric("kas3_files_published_total") >= 12, what="files before")
            rule = proxy.rule(faults.answers(status, code), operations)
            wait_for(lambda: port.code("/health") == 503, 40, "/health to tell")
            _, reasons = port.reasons()
            assert len(reasons) == 1 and reasons[0].startswith(f"store `{proxy.url}/{sink.files.bucket}` has refused requests for"), reasons
            assert code in reasons[0] and "hint:" in reasons[0], reasons
            assert port.metric("kas3_store_refusing") == 1 and port.metric("kas3_conditions", kind="store_refuses") == 1
            assert port.metric("kas3_store_breaker_open") == 0 and port.metric("kas3_healthy") == 0
            lag = port.metric("kas3_lag_seconds")
            wait_for(lambda: port.metric("kas3_lag_seconds") > lag + 60, 60, "the lag of six partitions to grow")
            warnings = [entry["message"] for entry in logged(worker)]
            assert sum("has refused requests" in text for text in warnings) == 1 and len(warnings) < 4, warnings
            if ends == "it heals":
                rule.off()
                wait_for(lambda: port.code("/health") == 200, 60, "/health to be well again")
                published = port.metric("kas3_records_written_total")
                wait_for(lambda: port.metric("kas3_records_written_total") > published + 1000, 60, "records afterwards")
                told = lambda: sum("takes again what it had refused" in entry["message"] for entry in logged(worker, "INFO"))  # noqa: E731
                wait_for(lambda: told() == 1, what="the line that says so")
                assert worker.terminate().code == 0
            else:
                finished = worker.terminate()
                last = json.loads(finished.stderr.splitlines()[-1])["message"]
                assert finished.code == 3 and "could not be flushed in time; the next start reads again" in last and f"`{name}-" in last, last
                rule.off()
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
