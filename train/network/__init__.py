"""The networks: backbones, heads, weight files, augmentation."""
