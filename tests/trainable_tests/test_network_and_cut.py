"""The trunk is what depends on no trainable parameter, and head(trunk(x)) is the network."""

import re

import pytest
import torch

from spaces.errors import InputError, RefusedError
from spaces.run_files import sha256_of
from spaces.sections import NetworkSection, WeightsFile
from trainable.cut import cut_encoder, trainable_parameters
from trainable.head import split_network
from trainable.network import OUTPUTS, build_network, prepare

SIZE = 32


torch.set_num_threads(1)


def network_of(backbone="resnet18", *, maps=1, stack="late", weights="random", folder=None):
    section = NetworkSection(backbone=backbone, weights=weights, image_size=SIZE)
    generator = torch.Generator().manual_seed(0)
    return build_network(section, maps=maps, stack=stack, folder=folder, generator=generator)


def images_of(backbone, channels=3):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, channels, SIZE, SIZE), generator=generator)
    return prepare(pixels, backbone)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("layers", [1, 3, 6, "all"])
def test_tail_of_trunk_equals_the_encoder_bit_for_bit(backbone, layers):
    network = network_of(backbone)
    chosen = trainable_parameters(network, layers, widened=False)
    own = [name.removeprefix("encoder.") for name in chosen if name.startswith("encoder.")]
    cut = cut_encoder(network.encoder, own)
    image = images_of(backbone)
    with torch.no_grad():
        expected = network.encoder(image)
        found = cut.tail(*cut.trunk(image)) if cut.trunk else cut.tail(image)
    assert torch.equal(found, expected)
    assert (cut.trunk is None) == (layers == "all")


@pytest.mark.parametrize(
    ("backbone", "channels"), [("resnet50", [512, 2048]), ("efficientnet_lite0", [1152])]
)
def test_three_layers_leave_the_trunk_that_the_design_names(backbone, channels):
    trunk, _ = split_network(network_of(backbone), 3, widened=False, dtype=torch.float32)
    with torch.no_grad():
        assert [output.shape[1] for output in trunk(images_of(backbone))] == channels


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("layers", [1, 3, "all"])
def test_folding_changes_rounding_only(backbone, layers):
    network = network_of(backbone)
    _draw_norms(network)
    image = images_of(backbone)
    with torch.no_grad():
        expected = network(image)
        trunk, head = split_network(network, layers, widened=False, dtype=torch.float32)
        found = head([trunk(image) if trunk else (image,)])
        again = network(image)
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 2e-5 * scale
    assert torch.equal(again, expected), "splitting must not alter the network itself"


def test_gradients_of_the_folded_head_are_those_of_the_network():
    network = network_of("resnet18")
    _draw_norms(network)
    image = images_of("resnet18")
    trunk, head = split_network(network, 3, widened=False, dtype=torch.float32)
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert sorted(parameters) == sorted(name for _, name in head.names)
    plain = torch.autograd.grad(network(image).square().sum(), list(parameters.values()))
    with torch.no_grad():
        outputs = trunk(image)
    head([outputs]).square().sum().backward()
    for expected, (name, parameter) in zip(plain, parameters.items(), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-3, msg=name)


def test_only_the_last_layers_train():
    network = network_of("resnet50")
    trunk, head = split_network(network, 3, widened=False, dtype=torch.float32)
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    assert {name for _, name in head.names} == {
        "encoder.layer4.2.conv2.weight",
        "encoder.layer4.2.bn2.weight",
        "encoder.layer4.2.bn2.bias",
        "encoder.layer4.2.conv3.weight",
        "encoder.layer4.2.bn3.weight",
        "encoder.layer4.2.bn3.bias",
        "classifier.weight",
        "classifier.bias",
    }


def test_more_layers_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="trainable_layers must be <="):
        trainable_parameters(network_of(), 1000, widened=False)


@pytest.mark.parametrize("stack", ["late", "early"])
def test_permuting_stacked_maps_changes_the_logits(stack):
    network = network_of(maps=3, stack=stack)
    if stack == "early":
        # Repeated over the maps, the widened convolution cannot tell them apart; trained, it can.
        first = network.encoder.conv1.weight
        with torch.no_grad():
            expected = network(images_of("resnet18", 9).roll(3, dims=1))
            assert torch.allclose(expected, network(images_of("resnet18", 9)), atol=1e-4)
            first += torch.linspace(0, 0.1, 9).view(1, 9, 1, 1)
            pair = [network(images_of("resnet18", 9).roll(s, dims=1)) for s in (0, 3)]
    else:
        maps = [images_of("resnet18") * factor for factor in (1.0, 0.5, 0.2)]
        with torch.no_grad():
            pair = [network(*maps), network(maps[1], maps[2], maps[0])]
    assert (pair[0] - pair[1]).abs().max() > 1e-3


def test_an_early_stack_trains_its_first_convolution_so_the_trunk_is_empty():
    network = network_of("efficientnet_lite0", maps=2, stack="early")
    trunk, head = split_network(network, 3, widened=True, dtype=torch.float32)
    assert trunk is None
    with torch.no_grad():
        outputs = head([(images_of("efficientnet_lite0", 6),)])
    assert outputs.shape == (2, OUTPUTS)
    assert any("_conv_stem" in name for _, name in head.names)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(network_of("resnet34").torchvision_state(), path)
    weights = WeightsFile(file=path.name, sha256=sha256_of(path))
    with pytest.raises(InputError, match="not those of a resnet18"):
        network_of("resnet18", weights=weights, folder=tmp_path)
    wrong = WeightsFile(file=path.name, sha256="0" * 64)
    with pytest.raises(RefusedError, match="sha256"):
        network_of("resnet18", weights=wrong, folder=tmp_path)


def test_a_weights_file_is_loaded_under_torchvisions_names(tmp_path):
    source = network_of("resnet18")
    path = tmp_path / "weights.pt"
    torch.save(source.torchvision_state(), path)
    weights = WeightsFile(file=path.name, sha256=sha256_of(path))
    network = network_of("resnet18", weights=weights, folder=tmp_path)
    assert torch.equal(network.encoder.conv1.weight, source.encoder.conv1.weight)


def test_a_failed_download_names_the_way_out(monkeypatch, caplog):
    def refuse(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    with pytest.raises(InputError, match=r"cannot be downloaded .* weights: \{file: PATH"):
        network_of("resnet18", weights="imagenet")
    assert re.search(r"torchvision downloads .* once: 45 MB from https://.*pth to", caplog.text)


def test_a_file_that_would_execute_code_is_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "bomb.pt"
    torch.save({"conv1.weight": Bomb()}, path)
    weights = WeightsFile(file=path.name, sha256=sha256_of(path))
    with pytest.raises(InputError, match="cannot be read as weights"):
        network_of("resnet18", weights=weights, folder=tmp_path)


def _draw_norms(network):
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                values.uniform_(low, high, generator=generator)
