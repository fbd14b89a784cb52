"""Wrong configurations and places that are not there: a clear error, the right exit code, and nothing written."""

import json
import os

import pytest

from oracle import S3Files, compare, produce, read_committed

# What is set, by the path of the key, and what the error must name.
WRONG = {
    "a misspelt key": ({"sink.rol": {"records": 5}}, ["rol", "roll"]),
    "a misspelt key at the top": ({"sinc": {}}, ["sinc", "sink"]),
    "a misspelt format": ({"sink.format": {"type": "cvs"}}, ["cvs", "json_lines"]),
    "a misspelt compression": ({"sink.format": {"compression": "gzipp"}}, ["gzipp", "gzip"]),
    "a size that is none": ({"sink.roll": {"bytes": "12 apples"}}, ["12 apples", "MiB"]),
    "a duration that is none": ({"sink.roll": {"age": "soon"}}, ["soon", "5m"]),
    "a sink that is none": ({"sink.type": "paper"}, ["paper", "files"]),
    "a scheme that is none": ({"sink.url": "ftp://example/x"}, ["ftp", "s3://"]),
    "no partition in the path": ({"sink.path": "{topic}/{offset}"}, ["{partition}"]),
    "no offset in the path": ({"sink.path": "{topic}/{partition}"}, ["{offset}"]),
    "a path that runs together": ({"sink.path": "{topic}/{partition}{offset}"}, ["{partition}", "{offset}"]),
    "a path that leaves the prefix": ({"sink.path": "../{topic}/{partition}_{offset}"}, [".."]),
    "an absolute path": ({"sink.path": "/{topic}/{partition}_{offset}"}, ["/"]),
    "a path into our own folder": ({"sink.path": "_kas3/{topic}/{partition}_{offset}"}, ["_kas3"]),
    "an empty segment": ({"sink.path": "{topic}//{partition}_{offset}"}, ["//"]),
    "an unknown field of the path": ({"sink.path": "{topik}/{partition}_{offset}"}, ["topik"]),
    "a time zone that is none": ({"sink.timezone": "Mars/Olympus"}, ["Mars/Olympus"]),
    "an expression that is none": ({"source.topics": ["^("]}, ["^("]),
    "no topics": ({"source.topics": []}, ["topics"]),
    "too little memory": ({"memory": "1KiB"}, ["memory", "80MiB"]),
    "an unknown Kafka property": ({"source.kafka": {"bootstrap.servers": "localhost:1", "bootstrap.serverz": "x"}}, ["bootstrap.serverz"]),
    "no broker": ({"source.kafka": {}}, ["bootstrap.servers"]),
    "a name that leaves its folder": ({"name": "../up"}, ["../up"]),
}


def change(settings, path, value):
    *parents, last = path.split(".")
    for parent in parents:
        settings = settings[parent]
    settings[last] = value


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_refused_before_anything_starts(case, pipeline, local):
    changes, words = WRONG[case]
    sink = pipeline("orders", files=local, name="wrong")
    for path, value in changes.items():
        change(sink.settings, path, value)
    finished = sink.command("run", sink.file, "--until-end", "--log-format", "text", code=2, seconds=20).says(*words)
    lines = finished.stderr.splitlines()
    # a property is known to librdkafka alone, which is asked at the start
    lines = lines[next((at for at, line in enumerate(lines) if line.startswith("error: ")), 0) :]
    assert lines[0].startswith("error: "), finished.stderr
    assert lines[-1].startswith("hint: ") or ": write a number with " in lines[0], finished.stderr
    assert sink.files.paths(everything=True) == []


def test_a_contradiction_names_both_keys(pipeline, local):
    sink = pipeline("orders", files=local, name="wrong")
    sink.configure(cursor=True)
    sink.command("run", sink.file, code=2, seconds=20).says("cursor", "index")


def test_a_file_that_is_no_configuration_or_not_there(pipeline, local, tmp_path):
    sink = pipeline("orders", files=local, name="wrong")
    sink.command("run", tmp_path / "nowhere.yaml", code=2, seconds=20).says("nowhere.yaml")
    unclosed = tmp_path / "unclosed.yaml"
    unclosed.write_text("name: [orders\n")
    sink.command("run", unclosed, code=2, seconds=20).says("unclosed.yaml")


def test_a_missing_topic_is_named(pipeline, local):
    sink = pipeline("no-such-topic", files=local)
    sink.run_to_end(code=(2, 3), seconds=60)
    sink.command("check", sink.file, code=(1, 2, 3)).says("no-such-topic")


def test_a_missing_bucket_is_named(s3, topic, pipeline):
    sink = pipeline(topic(), files=S3Files(s3, "kas3-no-such-bucket"))
    sink.run_to_end(code=(2, 3), seconds=60).says("kas3-no-such-bucket")


def test_credentials_that_are_refused_are_named_and_not_shown(topic, bucket, s3, pipeline):
    sink = pipeline(topic(), files=S3Files(s3, bucket))
    sink.settings["sink"]["storage"] |= {"access_key_id": "kas3test", "secret_access_key": "${TEST_SECRET}"}
    finished = sink.command("run", sink.file, "--until-end", code=3, seconds=60, TEST_SECRET="a-wrong-secret-nobody-may-see")
    assert "a-wrong-secret-nobody-may-see" not in finished.stderr + finished.stdout
    assert json.loads(finished.stderr.splitlines()[-1])["hint"]


def test_a_broker_that_cannot_be_reached_is_named(pipeline, local):
    sink = pipeline("orders", files=local, name="unreachable")
    sink.kafka["bootstrap.servers"] = "127.0.0.1:1"
    sink.command("check", sink.file, code=(1, 3), seconds=90).says("127.0.0.1:1")


def test_variables_of_the_environment_are_filled_in(kafka, topic, pipeline, tmp_path):
    name = topic()
    produce(kafka, name, 50)
    sink = pipeline(name)
    sink.settings["source"]["topics"] = ["${TEST_TOPIC}"]
    sink.configure(roll={"records": "TEST_RECORDS"})
    file = tmp_path / "variables.yaml"
    file.write_text(json.dumps(sink.settings).replace('"TEST_RECORDS"', "${TEST_RECORDS:-10}"))
    sink.command("run", file, "--until-end", TEST_TOPIC=name)
    assert compare(read_committed(kafka, name), sink.files).check().files == 5
    sink.command("run", file, "--until-end", code=2).says("TEST_TOPIC")


def test_check_says_what_will_happen_and_writes_nothing_that_stays(kafka, topic, pipeline, store):
    name = topic()
    sink = pipeline(name)
    assert name in sink.command("check", sink.file).stdout
    assert sink.files.paths(everything=True) == []


def test_the_environment_of_other_systems_is_enough(kafka, topic, bucket, s3, tmp_path, pipeline):
    """Without a file: the names of the systems that kas3 replaces."""
    name = topic()
    produce(kafka, name, 300)
    log = read_committed(kafka, name)
    s3_names = {"S3_BUCKET_NAME": bucket, "S3_ENDPOINT_URL": os.environ["S3_ENDPOINT_URL"], "S3_REGION": "us-east-1"}
    zooz = {"KAFKA_HOST": kafka, "SOURCE_KAFKA_TOPIC": name, "APP_ID": f"{name}-zooz", "DEFAULT_KAFKA_STARTPOINT": "earliest",
            "S3_ACCESS_KEY": os.environ["AWS_ACCESS_KEY_ID"], "S3_SECRET_KEY": os.environ["AWS_SECRET_ACCESS_KEY"], **s3_names}
    sink = pipeline(name, files=S3Files(s3, bucket))
    sink.command("run", "--until-end", **zooz)
    compare(log, sink.files).check()
    assert all("/date=" in f"/{path}" and "/hour=" in path and ".json" in path for path in sink.files.paths())
    # with its ledger: beside another pipeline's files of the same topic, the next one would not begin
    for path in sink.files.paths(everything=True):
        sink.files.delete(path)
    delta = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "KAFKA_TOPICS": name, "CONNECT_GROUP_ID": f"{name}-delta",
             "BATCH_SIZE": "100", "FLUSH_INTERVAL": "5", **s3_names}
    sink.command("run", "--until-end", **delta)
    assert compare(log, sink.files).check().files >= 3
    assert all("/year=" in f"/{path}" and "/month=" in path and "/day=" in path for path in sink.files.paths())
