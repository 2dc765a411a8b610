"""Networks: backbones, heads, weight files and augmentation."""
