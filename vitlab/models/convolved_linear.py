"""Linear layers computed as 1x1 convolutions: the same product, by another library.

On a CPU, PyTorch multiplies float32 matrices with MKL and convolves with oneDNN. On an AMD CPU with AVX-512 the second
is twice as fast at the first one's own task (results/speed), and a ViT is little else than linear layers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvolvedLinear(nn.Linear):
    """A linear layer over tokens as a convolution with a 1x1 kernel: equal but for rounding.

    Shape: (batch, tokens, in_features) to (batch, tokens, out_features); other shapes are left to nn.Linear.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Map each token by itself."""
        # In bfloat16 both ways lead to oneDNN.
        if tokens.dim() != 3 or tokens.dtype != torch.float32 or torch.is_autocast_enabled(tokens.device.type):
            return super().forward(tokens)
        pixels = tokens.unsqueeze(2).permute(0, 3, 1, 2)  # (batch, dim, tokens, 1), the bytes as they lie
        mapped = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return mapped.permute(0, 2, 3, 1).squeeze(2)  # (batch, tokens, dim)


def convolve_linears(model: nn.Module) -> int:
    """Put a ConvolvedLinear with the same weights in the place of every nn.Linear, and return how many there are.

    Args:
        model: It is changed; names of weights stay.
    """
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name, linear in places:
        convolved = ConvolvedLinear(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta", dtype=linear.weight.dtype
        )
        convolved.weight, convolved.bias = linear.weight, linear.bias
        convolved.train(linear.training)
        setattr(parent, name, convolved)
    return len(places)
