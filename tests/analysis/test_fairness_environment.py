import made_up_sweeps as sweeps
import pytest

VERSIONS = {"vitlab": "0.1.0", "torch": "2.11.0"}
CHANGES = [
    ("mixed_versions", {"versions": VERSIONS}, "versions of torch: ViT with 2.11.0 and CNN with 2.15.0"),
    ("mixed_commits", {"commit": "fedcba9"}, "commits of vitlab: ViT with fedcba9 and CNN with 0123abc"),
    ("mixed_devices", {"device": "NVIDIA H100"}, "devices: ViT with NVIDIA H100 and CNN with cpu"),
    ("mixed_threads", {"num_threads": 4}, "numbers of CPU threads: ViT with 4 and CNN with 1"),
]


@pytest.mark.parametrize(("check", "change", "words"), CHANGES)
def test_arms_that_ran_in_different_environments_are_warned_of(check, change, words):
    plan = sweeps.make_plan()
    records = [r | change if r["model"] == "vit" else r for r in sweeps.matched_records(plan)]
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("warn", check)
    assert words in flaw.words
    assert "Run all " in flaw.words


@pytest.mark.parametrize(("check", "change", "words"), CHANGES)
def test_a_mixture_that_all_arms_share_is_noted(check, change, words):
    plan = sweeps.make_plan()
    records = [r | change if r["seed"] == 0 else r for r in sweeps.matched_records(plan)]
    note = sweeps.noted(plan, records, check)
    assert "in every arm alike" in note.words


def test_one_arm_in_two_environments_is_warned_of():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    records = [r | {"device": "mps"} if (r["model"], r["seed"]) == ("cnn", 0) else r for r in records]
    assert "ViT with cpu and CNN with cpu and mps" in sweeps.only_flaw(plan, records).words
