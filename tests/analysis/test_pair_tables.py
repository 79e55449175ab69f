import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.page_tables import text
from vitlab.analysis.pair_tables import pair_sections, pairs_table
from vitlab.analysis.task_result import analyze_task, conclude_pair
from vitlab.analysis.wording import sentence


def _result(num_models):
    names = ["vit", "cnn", "rnn", "hybrid"][:num_models]
    curves = {name: [0.4 + 0.02 * place, 0.1 + 0.03 * place] for place, name in enumerate(names)}
    plan = sweeps.make_plan(models=names, train_sizes=sweeps.TWO_SIZES)
    return analyze_task(plan, sweeps.matched_records(plan, curves=curves))


@pytest.mark.parametrize(("num_models", "num_folded"), [(2, 0), (3, 0), (4, 6)])
def test_many_pairs_are_folded_and_each_says_its_sentence_once(num_models, num_folded):
    result = _result(num_models)
    above, below = pairs_table(result), pair_sections(result)
    assert below.count('<details class="pair">') == below.count("</details>") == num_folded
    assert below.count("at each size, on the same seeds</caption>") == len(result.pairs)
    for pair in result.pairs:
        said = text(sentence(conclude_pair(pair).words))
        assert (above.count(said), below.count(said)) == ((0, 1) if num_folded else (1, 0))


def test_no_pair_gives_no_section():
    assert pair_sections(_result(1)) == ""
