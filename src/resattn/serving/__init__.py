"""How others use a trained network: images in, readable predictions out."""
