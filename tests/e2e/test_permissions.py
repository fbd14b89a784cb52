"""The smallest permissions: what docs/permissions.md prints suffices for the whole job, and each line of it is needed.

The policies and ACLs are read from the document, so that it is what is tested. Temporary keys of MinIO carry a policy; one user
of the broker may do nothing but what its ACLs allow.
"""

import json
import os
import re

import boto3
import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType,
)

from e2e import test_kill_points as situations
from e2e.driver import ROOT, wait_for
from oracle import S3Files, Watcher, compare, produce, read_committed
from services import fresh_name

DOCUMENT = (ROOT / "docs/permissions.md").read_text()
RUN, LOOK = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL))
LEDGER_ACTIONS = sorted({action for statement in RUN["Statement"] for action in statement["Action"]})


def filled(policy, pipeline, bucket, prefix="lake/"):
    """A policy of the document for a place."""
    text = json.dumps(policy)
    for name, value in (("BUCKET", bucket), ("PREFIX", prefix), ("PIPELINE", pipeline)):
        text = text.replace(name, value)
    return json.loads(text)


def without(policy, action):
    """The policy with one action less."""
    left = [{**statement, "Action": [each for each in statement["Action"] if each != action]} for statement in policy["Statement"]]
    return {**policy, "Statement": [statement for statement in left if statement["Action"]]}


def keys(policy):
    """Temporary keys that may do what the policy says and nothing else, as settings of the store."""
    root = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    sts = boto3.client("sts", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1", **root)
    role = {"RoleArn": "arn:aws:iam::123456789012:role/kas3", "RoleSessionName": "kas3"}
    given = sts.assume_role(**role, Policy=json.dumps(policy), DurationSeconds=3600)["Credentials"]
    return {"access_key_id": given["AccessKeyId"], "secret_access_key": given["SecretAccessKey"], "session_token": given["SessionToken"]}


def allow(sink, policy):
    """From now on the pipeline has these permissions alone."""
    for name in list(sink.environment):
        sink.environment.pop(name)
    sink.settings["sink"]["storage"].update(keys(policy))


@pytest.mark.parametrize("situation", ["bundle_lost", "upload_lost", "left_behind"])
def test_the_whole_job_needs_no_more_than_the_document_says(situation, bucket, s3, pipeline, request):
    """Bundles, uploads, kills and recoveries, amendments, a reclaim; and every command after it."""
    situation = getattr(situations, situation)
    topic, log = request.getfixturevalue(situations.LOGS.get(situation, "small_log"))
    sink = pipeline(topic, files=S3Files(s3, bucket, "lake"))
    allow(sink, filled(RUN, sink.name, bucket))
    with Watcher(sink.files) as watcher:
        situation(sink, watcher)
        sink.run_to_end(kill="settle.before")
        sink.run_to_end()
    compare(log, sink.files).check()
    # What the killed worker staged and nobody committed goes with the next start.
    sink.run_to_end()
    assert sink.staged() == []
    sink.command("check", sink.file)
    sink.verify()


def test_a_ledger_elsewhere_needs_its_folder_alone(bucket, s3, pipeline, small_log):
    topic, log = small_log
    sink = pipeline(topic, files=S3Files(s3, bucket, "lake"))
    elsewhere = fresh_name("ledger")
    s3.create_bucket(Bucket=elsewhere)
    ledger = S3Files(s3, elsewhere, "ledgers")
    try:
        sink.settings["ledger"] = {"url": ledger.url}
        narrow = json.loads(json.dumps(filled(RUN, sink.name, elsewhere, "ledgers/")).replace('ledgers/*"', f'ledgers/_kas3/{sink.name}/*"'))
        policy = filled(RUN, sink.name, bucket)
        allow(sink, {**policy, "Statement": policy["Statement"] + narrow["Statement"]})
        sink.command("check", sink.file)
        situations.small(sink, None)
        sink.run_to_end(kill="commit.after")
        sink.run_to_end()
        compare(log, sink.files).check()
        sink.verify()
        assert any("/ledger/" in path for path in ledger.paths(everything=True))
        assert not any("/ledger/" in path for path in sink.files.paths(everything=True))
    finally:
        for path in ledger.paths(everything=True):
            ledger.delete(path)
        s3.delete_bucket(Bucket=elsewhere)


@pytest.mark.parametrize("action", LEDGER_ACTIONS)
def test_each_permission_that_is_missing_is_named_before_anything_is_written(action, bucket, s3, pipeline, small_log):
    topic, log = small_log
    sink = pipeline(topic, files=S3Files(s3, bucket, "lake"))
    allow(sink, without(filled(RUN, sink.name, bucket), action))
    for command, code in ((("check", sink.file), 1), (("run", sink.file, "--until-end"), 3)):
        sink.command(*command, code=code, seconds=30).says("403", "AccessDenied", f"`{action}`", f"s3://{bucket}/lake/_kas3/{sink.name}/")
    assert sink.files.paths() == []
    assert all("/check/" in path for path in sink.files.paths(everything=True))
    allow(sink, filled(RUN, sink.name, bucket))
    sink.run_to_end()
    compare(log, sink.files).check()


def test_a_bundle_that_may_not_be_deleted_costs_space_and_no_record(bucket, s3, pipeline, large_log):
    """A denial that no check at the start can see."""
    topic, log = large_log
    sink = pipeline(topic, files=S3Files(s3, bucket, "lake"))
    policy = filled(RUN, sink.name, bucket)
    deny = {"Effect": "Deny", "Action": ["s3:DeleteObject"], "Resource": f"arn:aws:s3:::{bucket}/lake/_kas3/{sink.name}/staged/*"}
    allow(sink, {**policy, "Statement": [*policy["Statement"], deny]})
    situations.bundles(sink, None)
    sink.run_to_end(seconds=60).says("cannot delete", f"s3://{bucket}/lake/_kas3/{sink.name}/staged/", "`s3:DeleteObject`")
    compare(log, sink.files).check()
    assert sink.staged() != []
    allow(sink, filled(RUN, sink.name, bucket))
    sink.run_to_end()
    assert sink.staged() == []


def test_looking_needs_no_more_than_reading(bucket, s3, pipeline, small_log):
    topic, log = small_log
    sink = pipeline(topic, files=S3Files(s3, bucket, "lake"))
    sink.run_to_end()
    before = sink.files.list(everything=True)
    policy = filled(LOOK, sink.name, bucket)
    allow(sink, policy)
    assert sink.verify()["totals"]["equal"] == len(log)
    assert sink.cat(topic, 0, 0, 2) == [entry.value for entry in log if entry.partition == 0][:2]
    sink.command("ledger", "show", sink.file).says(topic)
    sink.run_to_end(code=3).says("`s3:PutObject`")
    looking = (("verify", sink.file), ("cat", sink.file, "--topic", topic, "--partition", 0, "--from", 0), ("ledger", "show", sink.file))
    allow(sink, without(policy, "s3:GetObject"))
    for command in looking:
        sink.command(*command, code=3, seconds=30).says("403", "AccessDenied", "`s3:GetObject`")
    allow(sink, without(policy, "s3:ListBucket"))
    # MinIO says what is not there without it, so `cat`, which lists nothing, gets along here; AWS does not.
    for command in (looking[0], looking[2]):
        sink.command(*command, code=3, seconds=30).says("403", "AccessDenied", "`s3:ListBucket`")
    assert sink.files.list(everything=True) == before


@pytest.mark.parametrize("encryption", [{"sse": "AES256"}, {"sse": "aws:kms"}], ids=lambda value: value["sse"])
def test_files_and_ledger_are_encrypted_when_asked(encryption, bucket, s3, pipeline, large_log, small_log):
    if "KAS3_KMS_KEY" not in os.environ:
        pytest.skip("a store of your own is used: its keys are not known")
    if encryption["sse"] == "aws:kms":
        encryption = {**encryption, "sse_kms_key_id": os.environ["KAS3_KMS_KEY"]}
    for topic, log in (small_log, large_log):
        sink = pipeline(topic, files=S3Files(s3, bucket, topic))
        sink.settings["sink"]["storage"].update(encryption)
        sink.run_to_end()
        compare(log, sink.files).check()
        sink.verify()
        for path in sink.files.paths(everything=True):
            head = s3.head_object(Bucket=bucket, Key=f"{topic}/{path}")
            assert head.get("ServerSideEncryption") == encryption["sse"], path


# Apache Kafka's ACLs

OPERATIONS = {"Read": AclOperation.READ, "Describe": AclOperation.DESCRIBE, "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS}


def documented():
    """The ACLs of the document, as pairs of operation and kind of resource."""
    lines = re.findall(r"kafka-acls\.sh .* --add .* --operation .*", DOCUMENT)
    found = [(operation, re.search(r"--(topic|group) ", line)[1]) for line in lines for operation in re.findall(r"--operation (\w+)", line)]
    assert found, "the document names no ACLs"
    return found


@pytest.fixture
def limited(admin, pipeline, topic, kafka):
    """A pipeline whose user may do what `grant(…)` allowed, and nothing else."""
    if "KAS3_KAFKA_LIMITED_USER" not in os.environ:
        pytest.skip("a broker of your own is used: its users are not known")
    user = os.environ["KAS3_KAFKA_LIMITED_USER"]
    name = topic(partitions=2)
    produce(kafka, name, 300, partitions=2)
    sink = pipeline(name)
    properties = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": user}
    sink.kafka.update({"bootstrap.servers": os.environ["KAS3_KAFKA_SASL"], **properties, "sasl.password": os.environ["KAS3_KAFKA_PASSWORD"]})
    made = []

    def grant(acls, **names):
        names = {"topic": name, "group": sink.name, **names}
        kinds = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
        for operation, kind in acls:
            fields = (kinds[kind], names[kind], ResourcePatternType.LITERAL, f"User:{user}", "*", OPERATIONS[operation], AclPermissionType.ALLOW)
            made.append(fields)
            for future in admin.create_acls([AclBinding(*fields)]).values():
                future.result(30)
        # the controller has them; the broker that is asked learns of them a moment later
        wait_for(lambda: all(told(fields) for fields in made), 30, "the ACLs")
        return sink

    def told(fields):
        return admin.describe_acls(AclBindingFilter(*fields)).result(30)

    def revoke():
        while made:
            for future in admin.delete_acls([AclBindingFilter(*made.pop())]).values():
                future.result(30)

    yield sink, grant, revoke
    revoke()


def test_a_user_with_the_acls_of_the_document_does_the_whole_job(limited, kafka):
    sink, grant, _ = limited
    grant(documented())
    (topic,) = sink.settings["source"]["topics"]
    sink.command("check", sink.file)
    sink.run_to_end(kill="commit.after")
    sink.run_to_end()
    compare(read_committed(kafka, topic), sink.files).check()
    sink.verify()
    assert sink.cat(topic, 0, 0)


@pytest.mark.parametrize("missing", documented(), ids=lambda acl: acl if isinstance(acl, str) else "-".join(acl))
def test_each_acl_that_is_missing_is_named(limited, kafka, missing):
    sink, grant, revoke = limited
    (topic,) = sink.settings["source"]["topics"]
    grant([acl for acl in documented() if acl != missing])
    operation, kind = missing
    for command, code in ((("check", sink.file), 1), (("run", sink.file, "--until-end"), 3)):
        sink.command(*command, code=code, seconds=60).says(operation.upper(), f"on the {kind}", topic if kind == "topic" else sink.name)
    assert sink.files.paths() == []
    revoke()
    grant(documented())
    sink.run_to_end()
    compare(read_committed(kafka, topic), sink.files).check()


def test_a_topic_that_may_be_seen_and_not_read_is_named_and_read_once_it_may_be(limited, kafka):
    sink, grant, _ = limited
    (topic,) = sink.settings["source"]["topics"]
    grant([("Describe", "topic"), ("Read", "group")])
    sink.command("check", sink.file, code=1, seconds=60).says("no permission to read", topic, "READ")
    with sink.start("--until-end") as worker:
        wait_for(lambda: f"no permission to read topic `{topic}`" in worker.errors.read_text(), 60, "the message")
        assert sink.files.paths() == []
        grant([("Read", "topic")])
        assert worker.wait().code == 0
    compare(read_committed(kafka, topic), sink.files).check()


def test_verify_needs_no_permission_on_the_group(limited, kafka):
    sink, grant, revoke = limited
    grant(documented())
    sink.run_to_end()
    revoke()
    grant([("Read", "topic")])
    assert sink.verify()["ok"]


def test_a_start_at_another_groups_offsets_needs_to_describe_that_group(limited, kafka, admin):
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    sink, grant, _ = limited
    (topic,) = sink.settings["source"]["topics"]
    other = f"{sink.name}-other"
    asked = ConsumerGroupTopicPartitions(other, [TopicPartition(topic, partition, 10) for partition in range(2)])
    for future in admin.alter_consumer_group_offsets([asked]).values():
        future.result(30)
    sink.settings["source"]["start"] = {"group": other}
    grant(documented())
    with sink.start("--until-end") as worker:
        wait_for(lambda: "the principal needs READ on the group" in worker.errors.read_text(), 60, "the message")
        assert sink.files.paths() == []
        grant([("Describe", "group")], group=other)
        assert worker.wait().code == 0
    expected = [entry for entry in read_committed(kafka, topic) if entry.offset >= 10]
    compare(expected, sink.files).check()
