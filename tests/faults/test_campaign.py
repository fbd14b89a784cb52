"""Scenario 6, mixed: a short piece of the campaign that `make torture` runs for long."""

import os

import pytest

from faults import campaign

SEEDS = [int(seed) for seed in os.environ.get("KAS3_CAMPAIGN_SEEDS", "11").split(",")]
SECONDS = int(os.environ.get("KAS3_CAMPAIGN_SECONDS", "10"))


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_loses_and_doubles_nothing(seed, s3, kafka):
    counts = campaign.run(seed, SECONDS, workers=2)
    assert counts["records"] > 0 and counts["files"] > 0
