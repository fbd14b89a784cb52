"""Campaigns of seeded faults against the real services, and the soak. `make torture` and `make soak`; docs/reliability.md.

A seed is one run: a topic into which records stream, a pipeline with one to three workers, and a sequence of kills, stops, joins,
leaves and broker troubles that the seed decides. Each ends with the oracle of `tests/oracle`.
"""
