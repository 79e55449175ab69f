import pytest
import torch

from vitlab.models import ClassifierHead

POOLINGS = ("class_token", "mean", "mean_then_norm")


def head_with_random_norm(pooling, num_classes=7):
    head = ClassifierHead(11, num_classes, pooling, num_prefix_tokens=3)
    torch.nn.init.normal_(head.norm.weight)
    torch.nn.init.normal_(head.norm.bias)
    return head


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_the_classifier_of_the_pooled_vector(pooling):
    head, tokens = head_with_random_norm(pooling), torch.randn(2, 3 + 5, 11)
    assert head(tokens).shape == (2, 7)
    torch.testing.assert_close(head(tokens), head.classifier(head.pool(tokens)))


@pytest.mark.parametrize(
    ("pooling", "read"), [("class_token", [0]), ("mean", range(3, 8)), ("mean_then_norm", range(3, 8))]
)
def test_pooling_reads_the_class_token_or_the_patches(pooling, read):
    tokens = torch.randn(2, 8, 11, requires_grad=True)
    (gradient,) = torch.autograd.grad(head_with_random_norm(pooling).pool(tokens).sum(), tokens)
    assert set(gradient.abs().sum((0, 2)).nonzero().flatten().tolist()) == set(read)


def test_the_order_of_patches_does_not_matter_to_an_average():
    tokens, order = torch.randn(2, 8, 11), torch.cat([torch.arange(3), 3 + torch.randperm(5)])
    for pooling in POOLINGS[1:]:
        head = head_with_random_norm(pooling)
        torch.testing.assert_close(head(tokens), head(tokens[:, order]))


def test_norm_before_and_after_the_average_differ():
    tokens = torch.randn(2, 8, 11) * torch.arange(1, 9)[:, None]
    before, after = head_with_random_norm("mean"), head_with_random_norm("mean_then_norm")
    after.load_state_dict(before.state_dict())
    assert not torch.allclose(before(tokens), after(tokens), atol=1e-2)


def test_no_classes_give_the_pooled_vector():
    head, tokens = head_with_random_norm("mean", num_classes=0), torch.randn(2, 8, 11)
    assert torch.equal(head(tokens), head.pool(tokens))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((11, 7, "max", 1), "unknown pooling 'max'; use one of class_token, mean, mean_then_norm"),
        ((11, 7, "class_token", 0), "needs a class token"),
        ((11, -1, "mean", 0), "num_classes must be 1 or more .* got -1"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassifierHead(*arguments)
