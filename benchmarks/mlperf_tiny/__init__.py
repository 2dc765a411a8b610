"""MLPerf Tiny's image classification: ResNet8 on pictures of CIFAR-10, in accuracy and single-stream mode."""
