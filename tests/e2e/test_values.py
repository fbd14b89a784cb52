"""Values and times as they come: newlines of every kind, what is no JSON, dates of "never", timestamps before 1970."""

import gzip
import json

from oracle import lines, produce, read_committed

# The first millisecond that a signed 32-bit number of seconds reaches, 1969-12-31, and neighbours of -1, which means none.
BEFORE_1970 = [-2_147_483_648_000, -86_400_000, -1001, -2, -1, 0, 1_767_225_600_000]


def content(sink):
    return [line for path in sink.files.paths() for line in lines(path, sink.files.read(path))]


def test_timestamps_before_1970_are_kept_in_envelopes_and_paths_and_compared(kafka, topic, pipeline, local):
    name = topic()
    produce(kafka, name, len(BEFORE_1970), timestamp_ms=lambda i: BEFORE_1970[i])
    written = {entry.offset: entry.timestamp_ms for entry in read_committed(kafka, name)}
    # a client takes 0 for "now"
    assert [written[offset] for offset in range(5)] == BEFORE_1970[:5]
    sink = pipeline(name, files=local)
    sink.configure(path="{topic}/{timestamp:%Y-%m-%d}/{partition}_{offset}")
    sink.encode(envelope=True)
    sink.run_to_end()
    found = {envelope["offset"]: envelope["timestamp"] for envelope in map(json.loads, content(sink))}
    assert found == {offset: None if at == -1 else at for offset, at in written.items()}
    folders = {path.split("/")[1] for path in sink.files.paths()}
    assert {"1901-12-13", "1969-12-31", "__HIVE_DEFAULT_PARTITION__", "2026-01-01"} <= {folder.replace("%5F", "_") for folder in folders}
    assert sink.verify()["totals"]["equal"] == len(BEFORE_1970)


def test_a_start_before_1970_is_refused_with_its_key(kafka, topic, pipeline, local):
    sink = pipeline(topic(), files=local)
    sink.settings["source"]["start"] = {"timestamp": "1969-12-31T00:00:00Z"}
    sink.command("run", sink.file, "--until-end", code=2).says("source.start.timestamp", "1969-12-31T00:00:00Z", "start: earliest")
    sink.settings["source"]["start"] = {"timestamp": "1970-01-01T00:00:00Z"}
    sink.run_to_end()


def test_lines_end_only_where_records_do_for_readers_that_take_a_carriage_return_for_an_end(kafka, topic, pipeline, local):
    values = [b'{"id":1,\r"b":2}', b'{"id":2,\r\n"b":2}', b'{"id":3}\r', '{"id":4,"t":"\u2028\u0085"}'.encode(), b'{"id":5}']
    name = topic()
    produce(kafka, name, len(values), value=lambda i: values[i])
    sink = pipeline(name, files=local)
    sink.run_to_end()
    (path,) = sink.files.paths()
    with gzip.open(local.folder / path, "rt", encoding="utf-8", newline=None) as file:
        assert [json.loads(line)["id"] for line in file] == [1, 2, 3, 4, 5]
    assert sink.verify()["totals"]["equal"] == len(values)


def test_what_is_no_json_is_refused_where_lines_are_looked_at(kafka, topic, pipeline, local):
    values = [b"{}", b"oops", b"[1,2", b"NaN", b"\xef\xbb\xbf{}", b"[1]"]
    name = topic()
    produce(kafka, name, len(values), value=lambda i: values[i])
    sink = pipeline(name, files=local)
    sink.encode(check_json=True)
    sink.run_to_end(code=3).says(f"{name}-0", "offset 1", "not_json", "not JSON at its byte 1", "format.check_json")
    sink.configure(bad_records="skip")
    sink.run_to_end()
    assert content(sink) == [b"{}", b"[1]"]
    totals = sink.verify()["totals"]
    assert (totals["equal"], totals["left_out"]) == (2, 4)


def test_the_usual_dates_of_never_and_dates_in_digits_make_their_folders(kafka, topic, pipeline, local):
    times = ['"9999-12-31"', '"9999-12-31T23:59:59Z"', '"0001-01-01T00:00:00Z"', "20260101", '"2026"', '"20260101123000"', "1767225600"]
    name = topic()
    produce(kafka, name, len(times), value=lambda i: f'{{"t":{times[i]}}}'.encode())
    sink = pipeline(name, files=local)
    sink.configure(path="{topic}/{value.t:%Y-%m-%d}/{partition}_{offset}")
    sink.run_to_end()
    assert {path.split("/")[1] for path in sink.files.paths()} == {"9999-12-31", "0001-01-01", "2026-01-01"}
    assert sink.verify()["totals"]["equal"] == len(times)
