"""What tests share: builders of images, results and files, waiting, and places of the checkout."""
