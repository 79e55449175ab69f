import pytest
import torch
from torch import nn

from vitlab.inspection import capture
from vitlab.models import ResNet, ResNetShape, ViT, ViTShape
from vitlab.models.convolved_linear import ConvolvedLinear
from vitlab.training import run, speed
from vitlab.training.speed import Speed

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")
TRIAL = [
    "--data.dataset=vitlab.data.Digits",
    "--model.backbone={class_path: vitlab.models.ViT, init_args: {patch_size: 4, size: {dim: 12, depth: 2, num_heads: "
    "2, mlp_dim: 12}}}",
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=3",
    "--data.train_size=50",
    "--num_threads=1",
]


def vit():
    torch.manual_seed(0)
    return ViT(image_size=15, num_classes=7, patch_size=5, size=ViTShape(dim=22, depth=2, num_heads=2, mlp_dim=34))


def resnet():
    return ResNet(image_size=13, num_classes=7, size=ResNetShape(depths=[1, 1], widths=[8, 16]))


def test_by_default_nothing_changes():
    model = run.prepare(TRIAL).model.backbone
    assert not model.recompute
    assert model._compiled_call_impl is None
    assert not any(isinstance(module, ConvolvedLinear) for module in model.modules())


def test_settings_of_the_command_line_reach_the_model_and_training_repeats_to_the_bit_under_recompute():
    usual, again = run.fit(TRIAL), run.fit([*TRIAL, "--speed.recompute=true"])
    assert again.model.backbone.recompute
    assert again.metrics == usual.metrics
    convolved = run.fit([*TRIAL, "--speed.linear_as_convolution=true"])
    assert any(isinstance(module, ConvolvedLinear) for module in convolved.model.modules())
    assert convolved.metrics["val/nll"] == pytest.approx(usual.metrics["val/nll"], rel=1e-4)
    assert list(convolved.model.state_dict()) == list(usual.model.state_dict())


def test_channels_last_keeps_what_a_cnn_says():
    model, images = resnet().eval(), torch.randn(3, 3, 13, 13)
    expected = model(images)
    Speed(channels_last=True).apply(model)
    assert model.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images), expected)


def test_recompute_is_refused_where_there_are_no_blocks_to_recompute():
    with pytest.raises(ValueError, match="is for vitlab's ViT, and the model is a ResNet"):
        Speed(recompute=True).apply(resnet())
    with pytest.raises(ValueError, match="ReLU has no linear layers"):
        Speed(linear_as_convolution=True).apply(torch.nn.ReLU())


def test_compile_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        ValueError, match=r"needs a C\+\+ compiler, and there is no g\+\+ or .* on the path; install one"
    ):
        run.prepare([*TRIAL, "--speed.compile=true"])
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(ValueError, match=r"no nowhere\+\+ on the path"):
        Speed(compile=True).apply(vit())


def test_a_compiled_model_has_the_same_names_and_shows_its_attention():
    model, images = vit().eval(), torch.randn(3, 3, 15, 15)
    names = list(model.state_dict())
    with capture(model) as expected:
        logits = model(images)
    model.compile(backend="eager")  # compiled like Speed's, but for the slow part: making machine code
    torch.testing.assert_close(model(images), logits)
    assert list(model.state_dict()) == names
    with capture(model) as record:
        model(images)
    assert len(record.weights) == 2
    for weights, wanted in zip(record.weights, expected.weights, strict=True):
        assert torch.equal(weights, wanted)


@pytest.fixture
def compiled(monkeypatch):
    """What has been compiled: graphs, by a backend that leaves out the slow part of Speed's."""
    graphs = []
    compile_with = nn.Module.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", lambda model: compile_with(model, backend=backend))
    with torch._dynamo.config.patch(recompile_limit=8):  # torch's own, which Speed raises
        yield graphs


def train_and_evaluate(model, image_size):
    images = torch.randn(3, 3, image_size, image_size)
    model.train()(images).sum().backward()
    with torch.inference_mode():
        model.eval()(images)


def test_models_of_one_shape_are_compiled_once_to_train_and_once_to_evaluate(compiled):
    for _ in range(3):  # a sweep's worker makes a model a trial
        model = vit()
        Speed(compile=True).apply(model)
        for _ in range(2):
            train_and_evaluate(model, 15)
    assert len(compiled) == 2


def test_models_of_many_shapes_are_all_compiled(compiled):
    for depth in range(1, 7):
        model = ViT(image_size=10, num_classes=7, patch_size=5, size=ViTShape(6, depth, num_heads=2, mlp_dim=6))
        Speed(compile=True).apply(model)
        train_and_evaluate(model, 10)
    assert len(compiled) == 12


@pytest.mark.slow
def test_a_compiled_training_ends_where_the_usual_one_does():
    trial = [argument.replace("depth: 2", "depth: 1") for argument in TRIAL]  # half as much to compile
    usual, compiled = run.fit(trial), run.fit([*trial, "--speed.compile=true"])
    assert compiled.model.backbone._compiled_call_impl is not None
    assert compiled.metrics["val/nll"] == pytest.approx(usual.metrics["val/nll"], rel=1e-3)
    assert list(compiled.model.state_dict()) == list(usual.model.state_dict())
