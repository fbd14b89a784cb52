"""Formats of references side by side: those that cannot be told apart in one topic are refused, wherever they are named."""

import pytest

import kas3
from kas3._settings import S3Section

BOTH = ["kas3", "bakdata-value"]
#: As Confluent's serializers frame what they write.
FRAMED = b"\0\0\0\0\7framed"


def test_formats_that_cannot_be_told_apart_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(kas3.ConfigError, match="bakdata-value.*kas3") as raised:
        kas3.ClaimCheck(tmp_path.as_uri(), accept=BOTH)
    assert "inline_header" in raised.value.hint
    with pytest.raises(kas3.ConfigError, match="bakdata-value.*kas3"):
        list(kas3.KafS3Consumer("localhost:9", "bucket", offline=True, accept=BOTH).consume("t", "g", timeout_ms=1))


def test_marked_payloads_and_those_with_a_first_byte_come_from_one_topic_as_they_were(tmp_path):
    new = kas3.ClaimCheck(tmp_path.as_uri(), inline_header=True)
    old = kas3.ClaimCheck(tmp_path.as_uri(), format="bakdata-value")
    both = kas3.ClaimCheck(tmp_path.as_uri(), accept=BOTH, inline_header=True)
    for producer in (new, old):
        value, headers, _ = producer.offload(FRAMED)
        assert both.resolve(value, headers) == FRAMED and both.headers_of_user(headers) == []


def test_the_default_of_the_section_s3_can_be_told_apart_whatever_is_written():
    for format in ("kaf-s3-connector", "kas3", "bakdata", "bakdata-value", "aws-payload-offloading", "kafscale"):
        told = S3Section({"url": "file:///tmp/kas3-nothing", "format": format, "require_integrity": False}).claim_check()
        kas3.ClaimCheck(told.pop("url"), storage_settings=told.pop("storage"), **told)
