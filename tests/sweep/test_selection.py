"""The learning rate is chosen on validation data, per model and size, and failures count against it."""

from vitlab.sweep.selection import chosen_learning_rates, is_selected


def record(rate, accuracy, seed=0, model="vit", size=11, status="done", test_accuracy=None):
    val = {"accuracy": accuracy} if status == "done" else None
    test = {"accuracy": test_accuracy} if test_accuracy is not None else None
    axes = {"model": model, "train_size": size, "seed": seed, "learning_rate": rate}
    return axes | {"status": status, "val": val, "test": test}


def test_the_best_mean_over_seeds_is_chosen():
    records = [record(0.1, 0.9, seed=0), record(0.1, 0.1, seed=1), record(0.2, 0.6, seed=0), record(0.2, 0.6, seed=1)]
    assert chosen_learning_rates(records) == {("vit", 11): 0.2}


def test_arms_choose_for_themselves():
    records = [record(0.1, 0.9), record(0.2, 0.1), record(0.1, 0.1, size=23), record(0.2, 0.9, size=23)]
    assert chosen_learning_rates(records) == {("vit", 11): 0.1, ("vit", 23): 0.2}


def test_test_data_has_no_say():
    records = [record(0.1, 0.6, test_accuracy=0.0), record(0.2, 0.5, test_accuracy=1.0)]
    assert chosen_learning_rates(records) == {("vit", 11): 0.1}


def test_a_rate_that_failed_once_loses_to_one_that_never_did():
    records = [record(0.1, 0.5), record(0.1, 0.5, seed=1), record(0.2, 0.9), record(0.2, None, seed=1, status="failed")]
    assert chosen_learning_rates(records) == {("vit", 11): 0.1}


def test_a_tie_goes_to_the_smaller_rate_in_any_order():
    records = [record(0.2, 0.5), record(0.1, 0.5)]
    assert chosen_learning_rates(records) == chosen_learning_rates(records[::-1]) == {("vit", 11): 0.1}


def test_an_arm_that_failed_throughout_has_no_choice():
    failed = record(0.1, None, status="failed")
    chosen = chosen_learning_rates([failed, record(0.1, 0.5, size=23)])
    assert chosen == {("vit", 23): 0.1}
    assert not is_selected(failed, chosen)


def test_a_rate_with_few_seeds_is_there_to_look_for_the_best_and_is_not_chosen(searching):
    plan = searching.with_rates("vit", 11, [0.1, 0.2], [0, 1]).with_rates("vit", 11, [0.5], [0])
    records = [record(rate, accuracy, seed=seed) for rate, accuracy in ((0.1, 0.5), (0.2, 0.6)) for seed in (0, 1)]
    records.append(record(0.5, 0.9))
    assert chosen_learning_rates(records, plan) == {("vit", 11): 0.2}
    assert chosen_learning_rates(records[-1:], plan) == {("vit", 11): 0.5}


def test_a_rate_added_to_a_grid_is_chosen_once_it_has_the_seeds_of_the_grid(plan):
    records = [record(rate, 10 * rate, seed=seed) for rate in (0.001, 0.01, 0.05) for seed in (0, 1)]
    for seeds, chosen in (([0], 0.01), ([0, 1], 0.05)):
        assert chosen_learning_rates(records, plan.with_rates("vit", 11, [0.05], seeds)) == {("vit", 11): chosen}
